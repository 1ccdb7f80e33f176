"""A copy that is made before anybody asks for one: does it run, and which memory does a program use?

It runs in namespaces of its own, with a program of ours; what it shares with sandboxes is how it is made. What it used
until its very end, copies then have before they are waited for, rather than by one page fault after the other.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isol8.engines.native.copying.asking import ask
from isol8.engines.native.copying.ends import STACK_BYTES, Ending
from isol8.engines.native.copying.errors import Unfit
from isol8.kernel import exit_stops, landlock, memory, mounts, namespaces, ptrace
from isol8.kernel.forked import lines_from_fork
from isol8.model import SANDBOX_DIR
from isol8.runner.worker import Worker

Ranges = list[tuple[int, int]]
_NEVER_WRITTEN = ("r-xp", "r--p")
_NOBODY = 65534
_LONGEST_S = 30.0
_NAMESPACES = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWCGROUP
    | namespaces.CLONE_NEWPID
)
_CODE = 91  # of an exit
# A little of what every program does; then it waits, to be watched while it ends.
_PROGRAM = (
    b"""
const greet = (names) => names.map((name, number) => `${number + 1}: hello ${name}`);
for (const line of greet(["you", "all"])) console.log(line);
process.exitCode = %d;
require("fs").readSync(0, Buffer.alloc(1));
"""
    % _CODE
)
_OUTPUT = b"1: hello you\n2: hello all\n"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The memory that a program `wrote` and `read`, as (start, bytes); and how its end is known (`Leaving`, packed)."""

    wrote: Ranges
    read: Ranges
    leaving: bytes


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed: a program at `path`, by a copy that `template`, a socket, is asked for. `words` are those of a
    copy for the user it is given; `groups` says how many cgroups a copy enters; here they are none."""

    path: str
    template: int
    words: Callable[[int], bytes]
    groups: int

    def perform(self, enter_home: Callable[[], None], ending: Ending | None) -> Rehearsed:
        """`enter_home` takes a process into the template's root; `ending` is where the end begins, if that is known.
        Raises Unfit when the copy does not run as it should."""
        lines = lines_from_fork(lambda: self._outside(enter_home, ending), _LONGEST_S)
        if not lines:
            raise Unfit("a copy of it did not get through a program")
        written, read, leaving = json.loads(lines[0])
        ranges = [[(start, length) for start, length in each] for each in (written, read)]
        return Rehearsed(ranges[0], ranges[1], bytes.fromhex(leaving))

    def _outside(self, enter_home: Callable[[], None], ending: Ending | None) -> Iterator[str]:
        enter_home()
        namespaces.unshare(_NAMESPACES)
        yield from lines_from_fork(lambda: self._as_runner(ending), _LONGEST_S)

    def _as_runner(self, ending: Ending | None) -> Iterator[str]:
        """In process 1 of namespaces like a sandbox's."""
        mounts.mount("tmpfs", SANDBOX_DIR, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=64k")
        mounts.mount("proc", "/proc", "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)
        with open(self.path, "wb") as file:
            file.write(_PROGRAM)
        at = ending.address if ending else 0
        performance = Performance(self._copy(), at)
        if performance.end() != _CODE:
            raise Unfit(f"a copy of it ended with {performance.code}, not {_CODE}")
        leaving = b""
        if ending and performance.stack:
            leaving = ending.found(performance.stack, _CODE, lambda: Performance(self._copy(), at))
        yield json.dumps([memory.ranges(performance.written), memory.ranges(performance.read), leaving.hex()])

    def _copy(self) -> Worker:
        nothing = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        rules = landlock.ruleset_for("/", signals=True)
        try:
            groups = [nothing] * self.groups
            copied = ask(self.template, self.words(_NOBODY), _NOBODY, rules, groups, lambda pid: None)
        finally:
            os.close(nothing)
            os.close(rules)
        if not copied:
            raise Unfit("there is no copy of it")
        return copied


class Performance:
    """One run of the program, watched till where its end begins, at `address`; 0: till it exits.

    `written` and `read` are the pages that it used by then; `stack` what its stack began with, if it got to `address`.
    """

    def __init__(self, copied: Worker, address: int) -> None:
        self._copied = copied
        self.code = -1
        self.stack = b""
        self.written: set[int] = set()
        self.read: set[int] = set()
        os.set_blocking(copied.stdout, True)
        output = b""
        while len(output) < len(_OUTPUT) and (part := os.read(copied.stdout, 4096)):
            output += part
        if output != _OUTPUT:
            raise Unfit(f"a copy of it said {output!r}")
        ptrace.seize(copied.pid, ptrace.UNTIL_IT_ENDS)
        ptrace.await_stop(copied.pid)
        self._look()
        if address:
            with contextlib.suppress(OSError):  # this processor, or kernel, has no such registers
                exit_stops.stop_at(copied.pid, address)
        ptrace.let_run(copied.pid)
        os.write(copied.stdin, b"\n")
        ptrace.await_stop(copied.pid)
        self._look()
        registers = ptrace.general_registers(copied.pid)
        if address and registers["rip"] == address:
            self._pointer = registers["rsp"]
            with open(f"/proc/{copied.pid}/mem", "rb", buffering=0) as file:
                self.stack = os.pread(file.fileno(), STACK_BYTES, self._pointer)
            exit_stops.stop_nowhere(copied.pid)

    def _look(self) -> None:
        """Much of what is used is given back before the end."""
        self.written |= memory.pages(memory.EXCLUSIVE, self._copied.pid)
        self.read |= memory.pages(memory.PRESENT, self._copied.pid, _NEVER_WRITTEN)

    def change(self, offset: int, value: int) -> None:
        """Put another word on its stack."""
        with open(f"/proc/{self._copied.pid}/mem", "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), value.to_bytes(4, "little"), self._pointer + offset)

    def end(self) -> int:
        """Let it end; its exit code."""
        ptrace.detach(self._copied.pid)
        _, status = os.waitpid(self._copied.pid, 0)
        self._copied.close()
        self.code = os.waitstatus_to_exitcode(status)
        return self.code
