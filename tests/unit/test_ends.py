"""Who has ended: told of before it is taken apart, and never otherwise than waitpid tells. Real processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from isol8.kernel.exit_stops import ExitStops
from isol8.kernel.forked import lines_from_fork
from isol8.kernel.syscalls import MACHINE, libc
from isol8.runner.ends import Ends

PATIENCE_S = 120.0
HEAD = "import ctypes, os, signal, sys, threading, time\nlibc = ctypes.CDLL(None)\nos.read(0, 1)\n"
# exit(2) of the first thread alone; the others go on.
LEAVES = (
    "def go_on():\n    time.sleep(0.2)\n    os._exit(6)\nthreading.Thread(target=go_on).start()\nlibc.syscall(60, 3)"
)
STOPS = """
if (child := os.fork()) == 0:
    while ' T ' not in open(f'/proc/{os.getppid()}/stat').read(): time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
os._exit(13)
"""
# (program, whether its end is told of early)
PROGRAMS = {
    "nothing": ("os._exit(0)", True),
    "a code": ("os._exit(7)", True),
    "a large code": ("libc.syscall(231, 0x12345678)", True),
    "its own end": ("sys.exit(9)", True),
    "another program": ("os.execv('/bin/sh', ['sh', '-c', 'exit 11'])", True),
    "with threads": ("for _ in range(9): threading.Thread(target=time.sleep, args=(99,)).start()\nos._exit(4)", True),
    "another thread": ("threading.Thread(target=os._exit, args=(5,)).start()\ntime.sleep(99)", False),
    "the first thread": (LEAVES, False),
    "by another thread's execution": (
        "threading.Thread(target=os.execv, args=('/bin/sh', ['sh', '-c', 'exit 12'])).start()\ntime.sleep(99)",
        False,
    ),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(99)", False),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(99)", False),
    "aborted": ("os.abort()", False),
    "a fault": ("libc.memset(0, 0, 1)", False),
    "after a signal": ("signal.signal(10, print)\nos.kill(os.getpid(), 10)\nos._exit(8)", False),
    "after children": ("for _ in range(9): os.waitpid(os.fork() or os._exit(0), 0)\nos._exit(8)", False),
    "after a stop": (STOPS, False),
}
# Children and a thread that are made with CLONE_PTRACE, and so watched; some of them stay.
WATCHED = """
for number in range(20):
    if libc.syscall(56, 0x2000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(99 if number % 2 else 0)
        os._exit(0)
"""


def started(program: str) -> tuple[int, int]:
    """The process of a program, and where to write for it to go on."""
    reader, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(reader, 0)
        os.execv(sys.executable, [sys.executable, "-c", HEAD + program])
    os.close(reader)
    return pid, go


def told(program: str) -> Iterator[str]:
    """Whether the end was told of early, what was said of it, and what waitpid said."""
    os.setpgid(0, 0)
    stops = ExitStops()
    ends = Ends(stops)
    pid, go = started(program)
    ends.watch(pid)
    os.write(go, b".")
    while (found := ends.next(pid, wait=True)) and found[0] != pid:
        pass
    assert found is not None
    early = ends.left == pid
    status = found[1]
    if early:
        with open(f"/proc/{pid}/stat") as file:
            assert file.read().rpartition(")")[2].split()[0] == "t"
        stops.let_go(pid)
        status = os.waitpid(pid, 0)[1]
    yield f"{early} {found[1]} {status}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


@pytest.mark.skipif(MACHINE != "x86_64", reason="tracing is not written for this machine")
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_told_is_what_waitpid_says(name: str) -> None:
    program, early = PROGRAMS[name]
    (line,) = lines_from_fork(lambda: told(program), PATIENCE_S)
    whether, first, second = line.split()
    assert (whether, first) == (str(early), second)


@pytest.mark.skipif(MACHINE != "x86_64", reason="tracing is not written for this machine")
def test_those_that_a_program_has_watched_hold_nobody_up() -> None:
    (line,) = lines_from_fork(lambda: told(WATCHED + "os._exit(3)"), PATIENCE_S)
    assert line.split()[1:] == [str(3 << 8)] * 2


def test_one_that_is_left_is_waited_for() -> None:
    def follow() -> Iterator[str]:
        ends = Ends(ExitStops())
        pid, go = started("os._exit(3)")
        ends.watch(pid)
        os.write(go, b".")
        yield str(ends.next(pid, wait=True) == (pid, 3 << 8))
        ends.take_left_apart()
        while ends.left:
            ends.next(0, wait=True)
        yield str(os.path.exists(f"/proc/{pid}"))

    assert lines_from_fork(follow, PATIENCE_S) == ["True", "False"]


def test_a_program_that_is_not_the_last_is_not_left() -> None:
    """Watched since before that was known."""

    def follow() -> Iterator[str]:
        ends = Ends(ExitStops())
        pid, go = started("os._exit(3)")
        ends.watch(pid)
        os.write(go, b".")
        yield f"{ends.next(0, wait=True) == (pid, 3 << 8)} {ends.left} {os.path.exists(f'/proc/{pid}')}"

    assert lines_from_fork(follow, PATIENCE_S) == ["True 0 False"]


def test_without_stops_every_end_is_waited_for() -> None:
    def follow() -> Iterator[str]:
        ends = Ends(None)
        pid, go = started("os._exit(3)")
        ends.watch(pid)
        os.write(go, b".")
        yield f"{ends.next(pid, wait=True) == (pid, 3 << 8)} {ends.left} {ends.next(pid)}"

    assert lines_from_fork(follow, PATIENCE_S) == ["True 0 None"]


class At:
    """A place in this process, and so in its forks: where the C library's function begins."""

    def __init__(self, status: int | None) -> None:
        self.address = ctypes.cast(libc.getppid, ctypes.c_void_p).value or 0
        self.stacks: list[int] = []
        self._status = status

    def status(self, stack: int) -> int | None:
        self.stacks.append(stack)
        return self._status


def followed(at: At, last: bool, work: Callable[[], None]) -> Iterator[str]:
    """Fork a process that does something at its start, and then what is watched. What is told of it: which end, whether
    early, and whether it may still do something; how it ends when it is let go."""
    reader, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        work()
        os._exit(3)
    stops = ExitStops()
    ends = Ends(stops)
    ends.watch(pid)
    stops.stop_at(pid, at)
    os.write(go, b".")
    yield str(ends.next(pid if last else 0, wait=True))
    yield f"{ends.left == pid} {ends.unfinished} {len(at.stacks)}"
    if ends.left:
        stops.let_go(pid)
        yield str(os.waitpid(pid, 0)[1])


def _calls() -> None:
    libc.getppid()
    libc.getppid()


def _calls_after_a_signal() -> None:
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGUSR1)
    _calls()


@pytest.mark.skipif(MACHINE != "x86_64", reason="tracing is not written for this machine")
def test_a_program_can_be_over_at_a_place() -> None:
    def told(status: int | None, work: Callable[[], None], *, last: bool = True) -> list[str]:
        first, *rest = lines_from_fork(lambda: followed(At(status), last, work), PATIENCE_S)
        return [first.partition(", ")[2].rstrip(")"), *rest]

    assert told(7 << 8, _calls) == [str(7 << 8), "True True 1", str(3 << 8)]
    assert told(None, _calls) == [str(3 << 8), "True False 1", str(3 << 8)]
    assert told(7 << 8, _calls, last=False) == [str(3 << 8), "False False 0"]
    assert told(7 << 8, lambda: None) == [str(3 << 8), "True False 0", str(3 << 8)]
    assert told(7 << 8, lambda: os.kill(os.getpid(), signal.SIGTRAP)) == ["5", "False False 0"]
    # After a signal nobody watches it any more: it must not stop, or die of it.
    assert told(7 << 8, _calls_after_a_signal) == [str(3 << 8), "False False 0"]
