"""Copies of an interpreter that has booted, made by the interpreter itself.

Theory of operation. An interpreter is booted once, to where it would open its program (`booting.py`). All of its threads
but the first are ended, all of its descriptors closed (`installing.py`); what they were is kept. What is left is the
*template*: a process that no longer runs the interpreter's code, but makes the system calls of a table, one after the
other (`machine.py`). This module writes the table. It has four parts:

  template  waits at a socket. For each request it starts the
  entrant   a process that shares the template's memory, and nothing else. It receives the request: words that belong
            in a copy alone (`individual.py`), right into their places, and descriptors. It enters the cgroups and
            the namespaces of the sandbox, whose runner asks. As a process namespace is entered by one's children
            only, it starts
  parent    likewise, a process in the sandbox. It starts the copy and ends at once, so that the runner, process 1
            there, becomes the copy's parent.
  copy      has memory of its own. It becomes a session of its own, gives up every right just as a worker of
            the runner's does, and only then makes all that belongs to the interpreter and is not memory: descriptors
            and threads, of the same numbers and in the same state.

At the end every thread of the copy goes on from where it was, by way of rt_sigreturn(2), which restores all
registers, as if a signal had been handled. The first one makes the call in which it was held, in its own sandbox: it
opens the program, and is held there by a gate. The frames that the kernel restores from are on the stacks, below what
is in use, where those of real signals would be. So the table and its instructions can be unmapped before the end, and
no thread runs them: threads begin in a frame, and make their first calls by way of an instruction of the C library.

Whatever fails ends the process that it fails in, and the runner sees its pipe closed.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.individual import find_thread_numbers
from isol8.engines.native.copying.installing import CONTROL, DATA_BYTES, Image, number
from isol8.engines.native.copying.machine import (
    CODE,
    DONE,
    FRAME_BYTES,
    STEP,
    Frame,
    Step,
    as_frame_holds,
    calling,
)
from isol8.engines.native.copying.state import Descriptor, Thread, layout_of

# What a request brings, in the order of its descriptors: these six, and then one for each cgroup.
STDIN, STDOUT, STDERR, REPORT, RUNNER, RULES = range(6)
_FIRST_GROUP = 6
_MOST_GROUPS = 16
_KEPT_REPORT, _KEPT_RULES = 62, 61
_LAST_DESCRIPTOR = CONTROL - 1

_VM, _FS, _FILES, _SIGHAND, _VFORK, _THREAD, _SYSVSEM = 0x100, 0x200, 0x400, 0x800, 0x4000, 0x10000, 0x40000
_SETTLS, _PARENT_SETTID, _CHILD_CLEARTID, _CHILD_SETTID = 0x80000, 0x100000, 0x200000, 0x1000000
_SHARING = _VM | _VFORK | signal.SIGCHLD
_COPYING = _CHILD_SETTID | signal.SIGCHLD
_NEW_THREAD = _VM | _FS | _FILES | _SIGHAND | _THREAD | _SYSVSEM | _SETTLS | _PARENT_SETTID | _CHILD_CLEARTID
_NEW_THREAD |= _CHILD_SETTID
# mount, cgroup, uts, ipc, pid and net
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
_WALL = 0x40000000
_CMSG_CLOEXEC = 0x40000000
_DONT_FORK, _POPULATE_READ, _POPULATE_WRITE = 10, 22, 23
_MOST_RANGES = 400
_AT_FDCWD = -100
_EPOLL_CTL_ADD = 1
_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 15, 24, 38
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_CAPABILITY_VERSION_3 = 0x20080522
_MODE_FILTER = 1
_RED_ZONE = 128
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
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
        self._image = image
        self._free = image.data
        self._steps: list[Step] = []
        self._fatal = self._add(Step(number("exit_group"), (1,)))
        self._fatal.then = self._fatal.failed = self._fatal
        self._told = False
        self._end = self._add(Step(number("exit_group"), (0,)))
        self._end.then = self._end.failed = self._end
        self._groups, self._directory, self._seccomp, self._capabilities = groups, directory, seccomp, capabilities
        # The arguments by which a copy becomes a user are written by each request.
        self._become_group, self._become_user = Step(number("setresgid")), Step(number("setresuid"))
        self._add(self._become_group)
        self._add(self._become_user)

    @property
    def users(self) -> tuple[int, int]:
        """Where the arguments of the two calls are by which a copy becomes a user."""
        return self._become_group.address + 8, self._become_user.address + 8

    def _put(self, content: bytes, align: int = 8) -> int:
        """Reserve room for something, and write it there."""
        address = (self._free + align - 1) & -align
        self._free = address + len(content)
        if self._free > self._image.data + DATA_BYTES:
            raise Unfit("there is not enough room for what is to be known of it")
        os.pwrite(self._image.memory, content, address)
        return address

    def _add(self, step: Step) -> Step:
        step.address = self._put(bytes(STEP.size))
        self._steps.append(step)
        return step

    def _call(self, name: str, *arguments: int) -> Step:
        return Step(number(name), arguments)

    def _chain(self, steps: Iterator[Step], end: Step) -> Step:
        """Put steps in a row. One that fails is the end of its process."""
        row = [step if step.address else self._add(step) for step in steps]
        for step, following in zip(row, [*row[1:], end], strict=True):
            step.then = step.then or following
            step.failed = step.failed or self._fatal
        return row[0]

    def write(self, places: tuple[tuple[int, int], ...], vector: tuple[int, int], numbers: list[int]) -> int:
        """`places`: where the words of a request belong: (address, number of words). `vector`: address and bytes of
        the auxiliary vector. `numbers`: where the interpreter itself keeps its process number."""
        self._numbers = numbers
        copy = self._copy(vector)
        parent = self._chain(self._parent(copy), self._end)
        entrant = self._chain(self._entrant(parent), self._end)
        first = self._template(entrant, places)
        for step in self._steps:
            os.pwrite(self._image.memory, step.pack(), step.address)
        os.pwrite(self._image.memory, CODE, self._image.code)
        return first.address

    def use(self, written: list[tuple[int, int]], read: list[tuple[int, int]]) -> None:
        """Let copies have that memory, (start, bytes), before they go on. The template must be waiting."""
        wanted = [(place, _POPULATE_WRITE) for place in written] + [(place, _POPULATE_READ) for place in read]
        wanted = sorted(wanted, key=lambda each: each[0][1], reverse=True)[:_MOST_RANGES]
        following = self._before_use.then
        steps = [self._before_use]
        for (start, length), how in reversed(wanted):
            step = self._add(self._call("madvise", start, length, how))
            # What the kernel will not do here, it does when there is a page fault.
            step.then = step.failed = following
            following = step
            steps.append(step)
        self._before_use.then = following
        for step in steps:
            os.pwrite(self._image.memory, step.pack(), step.address)

    def _template(self, entrant: Step, places: tuple[tuple[int, int], ...]) -> Step:
        vector = b"".join(struct.pack("=QQ", address, 8 * count) for address, count in places)
        words = self._put(vector)
        control = self._put(bytes(_CONTROL_BYTES))
        self._header = _HEADER.pack(0, 0, 0, words, len(places), control, _CONTROL_BYTES, 0)
        os.pwrite(self._image.memory, self._header, self._message)
        intact = self._put(self._header)
        # recvmsg writes into its header, which must be as it was for the next one.
        source, target = (self._put(struct.pack("=QQ", at, _HEADER.size)) for at in (intact, self._message))
        polled = self._put(struct.pack("=iHH", CONTROL, 1, 0))
        wait = self._add(self._call("poll", polled, 1, -1))
        start = Step(number("clone"), (_SHARING, 0), zero=entrant, failed=wait)
        steps = [
            self._call("process_vm_writev", self._image.process, source, 1, target, 1, 0),
            start,
            self._call("wait4", -1, 0, _WALL, 0),
        ]
        wait.then = self._chain(iter(steps), wait)
        wait.failed = wait
        return self._chain(self._bounded(), wait)

    def _bounded(self) -> Iterator[Step]:
        """No right can be had by executing something."""
        for capability in range(self._capabilities):
            yield self._call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        yield self._call("close_range", 0, _LAST_DESCRIPTOR, 0)

    def _entrant(self, parent: Step) -> Iterator[Step]:
        self._message = self._put(bytes(_HEADER.size))
        zero = self._put(b"0")
        # At the end of the stream, as on an error: nothing more will ever be asked for.
        yield Step(number("recvmsg"), (CONTROL, self._message, _CMSG_CLOEXEC), zero=self._fatal)
        yield self._call("close", CONTROL)
        for index in range(self._groups):
            yield self._call("write", _FIRST_GROUP + index, zero, 1)
        yield self._call("setns", RUNNER, _NAMESPACES)
        yield Step(number("clone"), (_SHARING, 0), zero=parent)
        yield self._call("wait4", -1, 0, _WALL, 0)

    def _parent(self, copy: Step) -> Iterator[Step]:
        yield Step(number("clone"), (_COPYING, 0, 0, self._numbers[0], 0), zero=copy)

    def _copy(self, vector: tuple[int, int]) -> Step:
        last = self._add(self._resume_first())
        last.then = last.failed = self._fatal
        return self._chain(self._copy_steps(vector), last)

    def _copy_steps(self, vector: tuple[int, int]) -> Iterator[Step]:
        yield from self._become_program(vector)
        yield from self._open_descriptors()
        for start, length in self._image.not_inherited:
            yield self._call("madvise", start, length, _DONT_FORK)
        first = self._image.threads[0]
        self._before_use = self._call("set_tid_address", self._image.thread_id)
        yield self._before_use
        yield self._call("set_robust_list", *first.robust)
        yield self._call("rseq", first.rseq[0], first.rseq[1], 0, first.rseq[2])
        for thread in self._image.threads[1:]:
            yield from self._start_thread(thread)
        yield self._call("write", _KEPT_REPORT, self._image.thread_id, 4)
        yield self._call("close", _KEPT_REPORT)

    def _become_program(self, vector: tuple[int, int]) -> Iterator[Step]:
        """All that makes a worker of the runner's what it is; see zygote.py."""
        yield self._call("setsid")
        for source, target in ((REPORT, _KEPT_REPORT), (RULES, _KEPT_RULES)):
            yield self._call("dup3", source, target, _CLOEXEC)
        for stream in (STDIN, STDOUT, STDERR):
            yield self._call("fcntl", stream, 2, 0)  # F_SETFD: it stays open when something is executed
        yield self._call("close_range", STDERR + 1, _KEPT_RULES - 1, 0)
        score = self._put(b"/proc/self/oom_score_adj\0")
        yield self._call("openat", _AT_FDCWD, score, 1, 0)
        yield self._call("write", STDERR + 1, self._put(_OOM_SCORE), len(_OOM_SCORE))
        yield self._call("close", STDERR + 1)
        yield self._call("chdir", self._put(self._directory.encode() + b"\0"))
        layout = layout_of(self._image.process, self._image.brk, vector)
        yield self._call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, self._put(layout), len(layout), 0)
        yield self._call("setgroups", 0, 0)
        yield self._become_group
        yield self._become_user
        header = self._put(struct.pack("=II", _CAPABILITY_VERSION_3, 0))
        yield self._call("capset", header, self._put(bytes(24)))
        yield self._call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        yield self._call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)
        yield self._call("landlock_restrict_self", _KEPT_RULES, 0)
        yield self._call("close", _KEPT_RULES)
        program = self._put(self._seccomp)
        rules = self._put(struct.pack("=QQ", len(self._seccomp) // 8, program))
        yield self._call("seccomp", _MODE_FILTER, 0, rules)

    def _open_descriptors(self) -> Iterator[Step]:
        """The kernel gives the lowest number that is free: in their order, all get those that they had."""
        pair = self._put(bytes(8))
        ends: dict[str, Descriptor] = {}
        for each in self._image.descriptors[STDERR + 1 :]:
            if each.kind == "epoll":
                yield self._call("epoll_create1", each.flags & _CLOEXEC)
            elif each.kind == "event":
                yield self._call("eventfd2", 0, each.flags & (_CLOEXEC | _NONBLOCK))
            elif each.kind == "null":
                yield self._call("openat", _AT_FDCWD, self._put(b"/dev/null\0"), each.flags, 0)
            elif each.identity in ends:
                self._check_pipe(ends.pop(each.identity), each)
            else:
                ends[each.identity] = each
                yield self._call("pipe2", pair, each.flags & (_CLOEXEC | _NONBLOCK))
                yield from self._tell_number(each.number)
                if each.content:
                    yield self._call("write", each.number + 1, self._put(each.content), len(each.content))
        if ends or not self._told:
            raise Unfit("it has one end of a pipe, or none")
        yield from self._watch()

    def _tell_number(self, pipe: int) -> Iterator[Step]:
        """The kernel has written the copy's number to one place; by way of a pipe, to the others and the C library's."""
        if not self._told:
            self._told = True
            for place in (*self._numbers[1:], self._image.thread_id):
                yield self._call("write", pipe + 1, self._numbers[0], 4)
                yield self._call("read", pipe, place, 4)

    @staticmethod
    def _check_pipe(reader: Descriptor, writer: Descriptor) -> None:
        alike = (reader.flags | os.O_WRONLY) == writer.flags and not reader.flags & os.O_ACCMODE
        if writer.number != reader.number + 1 or not alike:
            raise Unfit("it has a pipe that is not as pipe2 makes one")

    def _watch(self) -> Iterator[Step]:
        for each in self._image.descriptors:
            for watched, events, data in each.watched:
                event = self._put(struct.pack("=IQ", events, data))  # packed, on x86-64
                yield self._call("epoll_ctl", each.number, _EPOLL_CTL_ADD, watched, event)

    def _start_thread(self, thread: Thread) -> Iterator[Step]:
        """By a frame that makes the call and returns to the table: the thread itself returns to frames of its own."""
        image = self._image
        thread_data = thread.registers["fs_base"]
        thread_id = thread_data + image.thread_id_offset
        # Some have noted their number themselves.
        noted = find_thread_numbers(thread.id, image.memory, thread_data) or [thread_id]
        if len(noted) > 1:
            raise Unfit("a thread notes its number twice")
        first = [
            (number("set_robust_list"), *thread.robust),
            (number("rseq"), thread.rseq[0], thread.rseq[1], 0, thread.rseq[2]),
        ]
        stack = self._lay_frames(thread, first, name=True)
        started = self._add(Step(0))  # its call is made by the frame: what counts is where it goes on
        back = self._put(struct.pack("=Q", image.code + DONE))
        arguments = (_NEW_THREAD, stack, noted[0], thread_id, thread_data)
        frame = calling(image.places, back, number("clone"), *arguments, then=started.address)
        yield self._enter(self._put(frame.pack(image.places), 16))
        yield started

    def _enter(self, frame: int) -> Step:
        return Step(number("rt_sigreturn"), stack=frame + 8)

    def _lay_frames(self, thread: Thread, calls: list[tuple[int, ...]], *, name: bool) -> int:
        """Write frames to a thread's stack: some that make a call, one that puts it where it was. Where the first one
        is; a return to it begins them."""
        image = self._image
        held = as_frame_holds(thread.extended)
        extended = (thread.registers["rsp"] - _RED_ZONE - len(held)) & -64
        named = extended - 16
        if name:
            calls = [*calls, (number("prctl"), _PR_SET_NAME, named)]
        start = (named - FRAME_BYTES * (len(calls) + 1)) & -16
        frames = [calling(image.places, start + FRAME_BYTES * (index + 1), *call) for index, call in enumerate(calls)]
        frames.append(Frame(thread.registers, thread.blocked, extended))
        os.pwrite(image.memory, b"".join(frame.pack(image.places) for frame in frames), start)
        os.pwrite(image.memory, thread.name[:15].ljust(16, b"\0"), named)
        os.pwrite(image.memory, held, extended)
        return start

    def _resume_first(self) -> Step:
        """Unmap the table, and go on."""
        image = self._image
        unmap = (number("munmap"), image.code, image.data + DATA_BYTES - image.code)
        return self._enter(self._lay_frames(image.threads[0], [unmap], name=False))
