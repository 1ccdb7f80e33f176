"""Copies of an interpreter that has booted, made by the interpreter itself.

Theory of operation. An interpreter is booted once, to where it would open its program (`booting.py`). All of its
threads but the first are ended, all of its descriptors closed (`installing.py`); what they were is kept. What is left
is the *template*: a process that no longer runs the interpreter's code, but makes the system calls of a table, one
after the other (`machine.py`). Nothing is traced any more. This module writes the table. It has four parts:

  template  waits at a socket. For each request it starts the
  entrant   a process that shares the template's memory, and nothing else. It receives the request: words that belong
            in a copy alone (`individual.py`), right into their places, and descriptors. It enters the cgroups and
            the namespaces of the sandbox, whose runner asks. As a process namespace is entered by one's children
            only, it starts
  parent    likewise, a process in the sandbox. It starts the copy and ends at once, so that the runner, process 1
            there, becomes the copy's parent.
  copy      has memory of its own. It becomes a session of its own, gives up every right just as a worker of
            the runner's does, and only then makes all that belongs to the interpreter and is not memory: descriptors
            and threads, of the same numbers and in the same state (`opening.py`).

At the end every thread of the copy goes on from where it was (`threads.py`), by way of rt_sigreturn(2), which restores
all registers, as if a signal had been handled. The first one makes the call in which it was held, in its own sandbox:
it opens the program, and is held there by a gate. The frames that the kernel restores from are on the stacks, below
what is in use, where those of real signals would be. So the table and its instructions can be unmapped before the end,
and no thread runs them: threads begin in a frame, and make their first calls by way of an instruction of the C library.

Whatever fails ends the process that it fails in, and the runner sees its pipe closed.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator

from isol8.engines.native.copying import opening, threads
from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.installing import CONTROL, Image
from isol8.engines.native.copying.machine import Step
from isol8.engines.native.copying.state import layout_of
from isol8.engines.native.copying.table import Table, call
from isol8.kernel.call_table import number

# What a request brings, in the order of its descriptors: these six, and then one for each cgroup.
STDIN, STDOUT, STDERR, REPORT, RUNNER, RULES = range(6)
_FIRST_GROUP = 6
_MOST_GROUPS = 16
_KEPT_REPORT, _KEPT_RULES = 62, 61
_LAST_DESCRIPTOR = CONTROL - 1

_VM, _VFORK, _CHILD_SETTID = 0x100, 0x4000, 0x1000000
_SHARING = _VM | _VFORK | signal.SIGCHLD
_COPYING = _CHILD_SETTID | signal.SIGCHLD
# mount, cgroup, uts, ipc, pid and net
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
_WALL = 0x40000000
_CMSG_CLOEXEC = 0x40000000
_DONT_FORK, _POPULATE_READ, _POPULATE_WRITE = 10, 22, 23
_MOST_RANGES = 1000
_AT_FDCWD, _O_WRONLY = -100, 1
_F_SETFD = 2
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_CAPABILITY_VERSION_3 = 0x20080522
_MODE_FILTER = 1
_NOBODY = 65534
_CLOEXEC = 0o2000000
_HEADER = struct.Struct("=QIIQQQQQ")  # struct msghdr
_CONTROL_BYTES = 16 + 4 * (_FIRST_GROUP + _MOST_GROUPS)
_OOM_SCORE = b"300"  # as the runner gives its workers


class Script:
    """The table of one template. `write` puts all of it in place, and returns where its first step is."""

    def __init__(self, image: Image, groups: int, directory: str, seccomp: bytes, capabilities: int) -> None:
        """`groups`: how many cgroups a sandbox enters. `directory`: where a program runs. `seccomp`: its filter.
        `capabilities`: how many the kernel knows."""
        if groups > _MOST_GROUPS:
            raise Unfit("there are too many cgroup hierarchies")
        self._table = Table(image)
        self._image = image
        self._groups, self._directory, self._seccomp, self._capabilities = groups, directory, seccomp, capabilities
        # The arguments by which a copy becomes a user are written by each request; till then they are nobody's.
        self._become_group, self._become_user = (
            self._table.add(call(name, *[_NOBODY] * 3)) for name in ("setresgid", "setresuid")
        )

    @property
    def users(self) -> tuple[int, int]:
        """Where the arguments of the two calls are by which a copy becomes a user."""
        return self._become_group.address + 8, self._become_user.address + 8

    def write(self, places: tuple[tuple[int, int], ...], vector: tuple[int, int], numbers: list[int]) -> int:
        """`places`: where the words of a request belong: (address, number of words). `vector`: address and bytes of
        the auxiliary vector. `numbers`: where the interpreter itself keeps its process number."""
        self._numbers = [*numbers, self._image.thread_id]
        copy = self._copy(vector)
        parent = self._table.chain(self._parent(copy), self._table.end)
        entrant = self._table.chain(self._entrant(parent), self._table.end)
        first = self._template(entrant, places)
        self._table.write()
        return first.address

    def use(self, written: list[tuple[int, int]], read: list[tuple[int, int]]) -> None:
        """Let copies have that memory, (start, bytes), before they go on. The template must be waiting."""
        wanted = [(place, _POPULATE_WRITE) for place in written] + [(place, _POPULATE_READ) for place in read]
        wanted = sorted(wanted, key=lambda each: each[0][1], reverse=True)[:_MOST_RANGES]
        following = self._before_use.then
        steps = [self._before_use]
        for (start, length), how in reversed(wanted):
            step = self._table.add(call("madvise", start, length, how))
            # What the kernel will not do here, it does when there is a page fault.
            step.then = step.failed = following
            following = step
            steps.append(step)
        self._before_use.then = following
        self._table.write(steps)

    def _template(self, entrant: Step, places: tuple[tuple[int, int], ...]) -> Step:
        vector = b"".join(struct.pack("=QQ", address, 8 * count) for address, count in places)
        words = self._table.put(vector)
        control = self._table.put(bytes(_CONTROL_BYTES))
        header = _HEADER.pack(0, 0, 0, words, len(places), control, _CONTROL_BYTES, 0)
        intact = self._table.put(header)
        # recvmsg writes into its header, which must be as it was for the next one.
        source, target = (self._table.put(struct.pack("=QQ", at, _HEADER.size)) for at in (intact, self._message))
        polled = self._table.put(struct.pack("=iHH", CONTROL, 1, 0))
        wait = self._table.add(call("poll", polled, 1, -1))
        start = Step(number("clone"), (_SHARING, 0), zero=entrant)
        steps = [
            call("process_vm_writev", self._image.process, source, 1, target, 1, 0),
            start,
            call("wait4", -1, 0, _WALL, 0),
        ]
        wait.then = self._table.chain(iter(steps), wait)
        wait.failed = wait
        return self._table.chain(self._bounded(), wait)

    def _bounded(self) -> Iterator[Step]:
        """No right can be had by executing something."""
        for capability in range(self._capabilities):
            yield call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        yield call("close_range", 0, _LAST_DESCRIPTOR, 0)

    def _entrant(self, parent: Step) -> Iterator[Step]:
        self._message = self._table.put(bytes(_HEADER.size))
        zero = self._table.put(b"0")
        # At the end of the stream, as on an error: nothing more will ever be asked for.
        yield Step(number("recvmsg"), (CONTROL, self._message, _CMSG_CLOEXEC), zero=self._table.fatal)
        yield call("close", CONTROL)
        for index in range(self._groups):
            yield call("write", _FIRST_GROUP + index, zero, 1)
        yield call("setns", RUNNER, _NAMESPACES)
        yield Step(number("clone"), (_SHARING, 0), zero=parent)
        yield call("wait4", -1, 0, _WALL, 0)

    def _parent(self, copy: Step) -> Iterator[Step]:
        yield Step(number("clone"), (_COPYING, 0, 0, self._numbers[0], 0), zero=copy)

    def _copy(self, vector: tuple[int, int]) -> Step:
        last = self._table.add(threads.resume_first(self._image))
        last.then = last.failed = self._table.fatal
        return self._table.chain(self._copy_steps(vector), last)

    def _copy_steps(self, vector: tuple[int, int]) -> Iterator[Step]:
        yield from self._become_program(vector)
        yield from opening.open_all(self._table, self._numbers)
        for start, length in self._image.not_inherited:
            yield call("madvise", start, length, _DONT_FORK)
        first = self._image.threads[0]
        self._before_use = call("set_tid_address", self._image.thread_id)
        yield self._before_use
        yield call("set_robust_list", *first.robust)
        yield call("rseq", first.rseq[0], first.rseq[1], 0, first.rseq[2])
        for thread in self._image.threads[1:]:
            yield from threads.start(self._table, thread)
        yield call("write", _KEPT_REPORT, self._image.thread_id, 4)
        # Till it has been looked at. At the end of the stream there is nobody to go on for.
        yield Step(number("read"), (_KEPT_REPORT, self._table.put(bytes(8)), 1), zero=self._table.fatal)
        yield call("close", _KEPT_REPORT)

    def _become_program(self, vector: tuple[int, int]) -> Iterator[Step]:
        """All that makes a worker of the runner's what it is; see becoming.py."""
        yield call("setsid")
        for source, target in ((REPORT, _KEPT_REPORT), (RULES, _KEPT_RULES)):
            yield call("dup3", source, target, _CLOEXEC)
        for stream in (STDIN, STDOUT, STDERR):
            yield call("fcntl", stream, _F_SETFD, 0)  # it stays open when something is executed
        yield call("close_range", STDERR + 1, _KEPT_RULES - 1, 0)
        score = self._table.put(b"/proc/self/oom_score_adj\0")
        yield call("openat", _AT_FDCWD, score, _O_WRONLY, 0)
        yield call("write", STDERR + 1, self._table.put(_OOM_SCORE), len(_OOM_SCORE))
        yield call("close", STDERR + 1)
        yield call("chdir", self._table.put(self._directory.encode() + b"\0"))
        layout = layout_of(self._image.process, self._image.brk, vector)
        yield call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, self._table.put(layout), len(layout), 0)
        yield call("setgroups", 0, 0)
        yield self._become_group
        yield self._become_user
        header = self._table.put(struct.pack("=II", _CAPABILITY_VERSION_3, 0))
        yield call("capset", header, self._table.put(bytes(24)))
        yield call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        yield call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)
        yield call("landlock_restrict_self", _KEPT_RULES, 0)
        yield call("close", _KEPT_RULES)
        program = self._table.put(self._seccomp)
        rules = self._table.put(struct.pack("=QQ", len(self._seccomp) // 8, program))
        yield call("seccomp", _MODE_FILTER, 0, rules)
