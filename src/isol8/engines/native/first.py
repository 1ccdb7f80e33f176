"""Process 1 of a Python sandbox, which runs no Python until it must.

The zygote's clone does not come back into the interpreter: a table of system calls (kernel/call_table.py) makes of it
what `becoming.py` would, in the same order, clones the worker, says READY, and waits for the server to speak. Until
then it has copied a few pages. Then it comes back, and becomes the runner of `runner/loop.py`, whose worker is there.

What the table does is what `becoming.py` does in Python where there is no table: every layer, or no sandbox.
"""

from __future__ import annotations

import errno
import os

from isol8.engines.native.relaying import RELAYED, Relay, polled
from isol8.engines.native.surroundings import Surroundings
from isol8.kernel import call_table, memory, namespaces, privileges, seccomp
from isol8.runner.frames import READY, encode
from isol8.runner.program import Begun, Program
from isol8.runner.worker import PROGRAM_OOM_SCORE, Worker

# Who comes back from the table, and how: up to ZYGOTE the zygote itself, then who was made. Process 1 as RUNNER, before
# there is a program, or with one; see relaying.py.
OTHER, LOST, REFUSED, ZYGOTE, FAILED, WORKER, RUNNER, UNSTARTED, RUNNING, ENDING, ENDED = range(-3, 8)
_ROOM = 17 * 4096
_RESERVED = 2 * 64 * 1024
MOST_GROUPS = 16
_MOST_COPIES = 320  # what a zygote's rehearsal finds are some two hundred
# Descriptors of process 1, from the moment at which it closes all others. Pipes take the lowest that are free.
STREAM, _RULES = 3, 4
_FREE_IN_WORKER = 4  # the lowest that it does not keep
_STDIN, _STDOUT, _STDERR, _GO, _REPORT = (4, 5), (6, 7), (8, 9), (10, 11), (12, 13)
_WORKERS_STREAMS, WORKERS_PIPES = (_STDIN[0], _STDOUT[1], _STDERR[1]), (_GO[0], _REPORT[1])
FEED = _STDIN[1]
_WRITE_ONLY, _CLOEXEC, _LAST_DESCRIPTOR = 0o1, 0o2000000, 0xFFFFFFFF
_AT_FDCWD = -100
_SIGINT, _SIGKILL, _SIGCHLD = 2, 9, 17
_MASK_BYTES = 8
_SET_CHILD, _CLEAR_CHILD = 0x01000000, 0x00200000  # CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID
_F_SETFL, _NONBLOCK = 4, 0o4000

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isol8.engines.native.request import Request

Mount = tuple[str, str, str, int, str]  # arguments of mounts.mount


class First:
    """The table of a zygote: what every sandbox gets is in it. `proc` are the mounts of /proc; `home` the namespaces in
    which the zygote lives; of `control` and `spare` see surroundings.py. Raises OSError where there can be no table."""

    def __init__(
        self, ruleset: int, program: bytes, proc: list[Mount], home: list[int], control: int, spare: int
    ) -> None:
        self._table = table = call_table.CallTable(_ROOM, _RESERVED)
        self._thread, self._robust = call_table.thread_words()
        self._surroundings = Surroundings(table, control, spare)
        self._enter(table, ruleset, proc)
        self._become_user(table, ruleset, program)
        self._wait(table, home)
        self._become_worker(table)
        table.finish()

    def copy_ahead(self, ranges: list[tuple[int, int]]) -> None:
        """From now on workers take their own copies of these pages; see memory.populate."""
        largest = sorted(ranges, key=lambda each: each[1])[-_MOST_COPIES:]
        for index, (start, length) in enumerate(largest):
            self._table.set(f"start {index}", start)
            self._table.set(f"length {index}", length)
        self._table.aim("copy ahead", f"copies {len(largest)}")

    def make(self, flags: int, request: Request) -> int:
        """Make a sandbox in the surroundings that are there; who comes back: REFUSED and FAILED have an `error`, and so
        has LOST, which is the zygote when it does not find home. No more than MOST_GROUPS cgroups."""
        self._aim(flags, request.stream, request.cgroups)
        self._table.set("uid", request.uid)
        # Packages are foreign code: a worker that has imported some takes no START by itself.
        self._table.aim("way", "no relay" if request.modules else "relay")
        self._table.aim("back", "home")
        return self._table.fork("sandbox")

    def serve(self, groups: int) -> int:
        """Make sandboxes as plain requests with that many cgroups ask for them. Who comes back is as with `make`: the
        zygote as OTHER, when the next request is another one, as REFUSED, from where it was then, or LOST."""
        stream = self._surroundings.expect(1 + groups)
        plain = namespaces.CLONE_NEWPID | namespaces.CLONE_PARENT
        self._aim(plain, stream, list(range(stream + 1, stream + 1 + groups)))
        self._table.aim("way", "relay")
        self._table.aim("back", "answer")
        return self._table.fork("serve")

    def _aim(self, flags: int, stream: int, groups: list[int]) -> None:
        self._table.set("flags", flags | _SIGCHLD)
        self._table.set("stream", stream)
        for index, descriptor in enumerate(groups):
            self._table.set(f"group {index}", descriptor)
        self._table.aim("sandbox", f"after {MOST_GROUPS - len(groups)}")

    def error(self, who: int) -> OSError:
        """Why there is no sandbox."""
        name, result = self._table.led_to({LOST: "lost", REFUSED: "refused"}.get(who, "failed"))
        number = -result if result < 0 else errno.EBADF  # what was opened is not where it belongs
        return OSError(number, f"{name}: {os.strerror(number)}")

    def sandbox(self) -> int:
        """In the zygote: the process that was made last."""
        return self._table.result("sandbox")

    def begun(self, who: int) -> Begun:
        """In process 1: what a runner finds."""
        if who != RUNNER:
            os.close(self._relay.signals)
        if who == ENDED:
            return Begun()
        worker = Worker(self._table.result("worker"), _GO[1], _STDIN[1], _STDOUT[0], _STDERR[0])
        if who in (RUNNER, UNSTARTED):
            if who == UNSTARTED:
                os.close(_REPORT[0])
            worker.unblock()
            return Begun(worker)
        worker.go = worker.stdin = -1
        program = Program(self._relay.channel(), worker, self._relay.cap(), last=False)
        return Begun(None, program, self._relay.status() if who == ENDING else None)

    def forget(self) -> None:
        """In what is to run a program: let it find nothing of this."""
        self._table.forget()

    def _enter(self, table: call_table.CallTable, ruleset: int, proc: list[Mount]) -> None:
        """From the clone to where nothing of the zygote's is left in reach; see becoming.py."""
        table.label("sandbox")
        answer = self._surroundings.answer
        table.call("clone", "flags", zero="after 0", more="zygote", failed="refused", copy=answer)
        zero = table.put(b"0")
        for index in reversed(range(MOST_GROUPS)):
            table.label(f"after {MOST_GROUPS - 1 - index}")
            table.call("write", f"group {index}", zero, 1)
        table.label(f"after {MOST_GROUPS}")
        table.call("dup3", "stream", STREAM, _CLOEXEC)
        if ruleset >= 0 and ruleset != _RULES:
            table.call("dup3", ruleset, _RULES, _CLOEXEC)
        first_free = _RULES if ruleset < 0 else _RULES + 1
        table.call("close_range", first_free, _LAST_DESCRIPTOR, 0)
        table.call("unshare", namespaces.CLONE_NEWCGROUP)
        for source, target, kind, flags, options in proc:
            texts = [table.text(text) if text else 0 for text in (source, target, kind, options)]
            table.call("mount", *texts[:3], flags, texts[3])
        _score(table, first_free, b"0")
        table.call("chdir", table.text("/sandbox"))

    def _become_user(self, table: call_table.CallTable, ruleset: int, program: bytes) -> None:
        """Every privilege dropped, and every layer that a process puts on itself."""
        for name, arguments in privileges.calls_to_drop(table.put):
            table.call(name, *("uid" if argument is None else argument for argument in arguments))
        _add(table, privileges.call_to_die_with_parent(_SIGKILL))
        # Whoever shares the user id may neither trace the runner nor see it in /proc.
        _add(table, privileges.call_to_set_dumpable(False))
        if ruleset >= 0:
            table.call("landlock_restrict_self", _RULES, 0)
            table.call("close", _RULES)
        _add(table, seccomp.call_to_load(program, table.put))

    def _wait(self, table: call_table.CallTable, home: list[int]) -> None:
        """Clone the worker, and wait with it. The zygote goes home meanwhile."""
        pair = table.put(bytes(8))
        for _ in (_STDIN, _STDOUT, _STDERR, _GO, _REPORT):
            table.call("pipe2", pair, _CLOEXEC)
        for descriptor in (_STDOUT[0], _STDERR[0]):
            table.call("fcntl", descriptor, _F_SETFL, _NONBLOCK)
        table.label("worker")
        table.call("clone", _SIGCHLD | _SET_CHILD | _CLEAR_CHILD, 0, 0, self._thread, 0, zero="in worker")
        # The namespace protects process 1 from signals it has no handler for; the interpreter sets one for this.
        table.call("rt_sigaction", _SIGINT, table.put(bytes(32)), 0, _MASK_BYTES)
        for descriptor in (*_WORKERS_STREAMS, WORKERS_PIPES[0]):
            table.call("close", descriptor)
        table.label("way")
        table.call("close", WORKERS_PIPES[1], zero="relay")
        table.label("no relay")
        table.call("read", _REPORT[0], pair, 1)  # end of file: it is ready, or dead
        table.call("close", _REPORT[0])
        ready = encode(READY, 0)
        table.call("write", STREAM, table.put(ready), len(ready), failed="let go")
        table.call("poll", table.put(polled(STREAM)), 1, -1, failed="runner")
        table.leave("runner", RUNNER)
        ours = [_STDIN[1], _GO[1]]
        self._relay = Relay(table, STREAM, _REPORT[0], (_STDOUT[0], _STDERR[0]), ours)
        table.leave("unstarted", UNSTARTED)
        table.leave("running", RUNNING)
        table.leave("ending", ENDING)
        table.leave("ended", ENDED)
        self._surroundings.go_home(home)
        table.leave("home", ZYGOTE)
        table.leave("other", OTHER)
        table.leave("lost", LOST)
        table.leave("refused", REFUSED)
        table.leave("failed", FAILED)
        table.label("let go")
        table.call("exit_group", 0, zero="let go", more="let go", failed="let go")

    def _become_worker(self, table: call_table.CallTable) -> None:
        """What runner/worker.py does in Python, and `becoming._in_worker`: what tells a program from its runner."""
        table.label("in worker")
        table.call("set_robust_list", self._robust, call_table.ROBUST_HEAD_BYTES)
        table.call("setsid")
        for target, source in enumerate(_WORKERS_STREAMS):
            table.call("dup3", source, target, 0)
        # Everything else that is open is the runner's: above all the other ends of these pipes.
        first = 3
        for descriptor in sorted((STREAM, FEED, *WORKERS_PIPES)):
            if first < descriptor:
                table.call("close_range", first, descriptor - 1, 0)
            first = descriptor + 1
        table.call("close_range", first, _LAST_DESCRIPTOR, 0)
        _add(table, privileges.call_to_set_dumpable(True))
        _score(table, _FREE_IN_WORKER, PROGRAM_OOM_SCORE)
        table.label("copy ahead")
        table.call("getpid", less=RELAYED, zero="copies 0")
        for index in reversed(range(_MOST_COPIES)):
            table.label(f"copies {index + 1}")
            table.call("madvise", f"start {index}", f"length {index}", memory.MADV_POPULATE_WRITE, failed="copies 0")
        table.leave("copies 0", WORKER)


def _add(table: call_table.CallTable, call: tuple[str, tuple[int, ...]]) -> None:
    table.call(call[0], *call[1])


def _score(table: call_table.CallTable, free: int, score: bytes) -> None:
    """How soon the kernel takes it: no layer; see set_oom_score. `free` is the lowest descriptor that is."""
    path = table.text("/proc/self/oom_score_adj")
    table.call("openat", _AT_FDCWD, path, _WRITE_ONLY | _CLOEXEC, 0, failed=f"{score!r} is not set")
    table.call("write", free, table.put(score), len(score), failed=f"{score!r} is tried")
    table.label(f"{score!r} is tried")
    table.call("close", free)
    table.label(f"{score!r} is not set")
