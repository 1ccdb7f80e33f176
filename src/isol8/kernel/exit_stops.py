"""Learning that a process ends before the kernel takes its memory and threads apart: by ptrace(2), on x86-64.

Who is watched stops when it exits, while it still has everything, and stays so until it is let go. On the way to there
a signal stops it too. It is then let go for good, with its signal: it must not wait for a tracer every time, and the
tracer must not wait on somebody who sends it signals without end. How it ends is then seen in the ordinary way.

It can be made to stop at one instruction as well, by a register of the processor's: nothing in it is changed for that.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import ctypes
import os

from isol8.kernel import seccomp_policy as policy
from isol8.kernel.syscalls import MACHINE, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # typing would be half a megabyte in every sandbox

_EVENT_EXIT = 6
_SIGTRAP = 5
_INTERRUPT = 0x4207
_ORIG_RAX, _RIP, _RSP = 15 * 8, 16 * 8, 19 * 8  # in struct user
_FIRST_BREAKPOINT = 848
_ENABLE_FIRST = 1  # when the instruction at that address is about to be executed
_EXIT_GROUP = 231


class Place(Protocol):
    """An instruction at which a program can be over although its process has not ended."""

    address: int

    def status(self, stack: int) -> int | None:
        """What waitpid will say of one that has stopped there, if the program is over. `stack` is its stack pointer."""


class ExitStops:
    """The stops of those this process watches, which all are its children, or theirs: a child that is made with
    CLONE_PTRACE is watched like its parent."""

    def __init__(self) -> None:
        self._watched = 0
        self._place: Place | None = None
        self.unfinished = False  # who has stopped at a place may still do something when it is let go

    def watch(self, pid: int) -> None:
        """Have the main thread of a child stop at its end. Where that cannot be had, it ends as ever."""
        if pid == self._watched or MACHINE != "x86_64":
            return
        try:
            syscall("ptrace", policy.TRACE_SEIZE, pid, 0, policy.TRACE_EXIT)
        except OSError:
            return  # it has ended, it has signed its own rights away, or nobody may trace here
        self._watched = pid

    def stop_at(self, pid: int, place: Place) -> None:
        """Have the main thread of the child that is watched stop there, too. To be called by who may trace it for
        anything; where that cannot be had, it does not stop. Raises OSError when it has ended."""
        if pid != self._watched:
            return
        syscall("ptrace", _INTERRUPT, pid, 0, 0)
        _, stop = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(stop):
            raise ProcessLookupError("it has ended")
        try:
            stop_at(pid, place.address)
            self._place = place
        except ProcessLookupError:
            raise
        except OSError:
            pass  # this processor, or kernel, has no such registers
        syscall("ptrace", policy.TRACE_CONTINUE, pid, 0, 0)

    def status(self, pid: int, stop: int) -> int | None:
        """What waitpid will say of who has stopped, if all of the process is about to exit, and by its own call; or if
        its program is over. `stop` is what waitpid said now.

        A first thread may end before the others: then it makes another call. One that is killed, by a signal or since
        another thread exits, tells less plainly what it ends of; so that is left to the ordinary way.
        """
        try:
            if self._at_place(pid, stop):
                assert self._place
                status = self._place.status(_word(policy.TRACE_PEEK_USER, pid, _RSP))
                self.unfinished = status is not None
                return status
            if stop >> 16 != _EVENT_EXIT or _word(policy.TRACE_PEEK_USER, pid, _ORIG_RAX) != _EXIT_GROUP:
                return None
            status = _word(policy.TRACE_GET_EVENT_MESSAGE, pid, 0)
        except ProcessLookupError:
            return None  # it was killed meanwhile
        return status if os.WIFEXITED(status) else None

    def let_go(self, pid: int, stop: int = 0) -> None:
        """Let who has stopped go on, with the signal that it stopped for, and watch it no longer; one that has stopped
        at a place is still watched for its end."""
        signal = 0 if stop >> 16 else os.WSTOPSIG(stop)
        try:
            if self._place and pid == self._watched:
                at_place = self._at_place(pid, stop)
                stop_nowhere(pid)
                self._place = None
                if at_place:
                    syscall("ptrace", policy.TRACE_CONTINUE, pid, 0, 0)
                    return
            syscall("ptrace", policy.TRACE_DETACH, pid, 0, signal)
        except ProcessLookupError:
            return  # it was killed meanwhile

    def _at_place(self, pid: int, stop: int) -> bool:
        if not self._place or pid != self._watched or stop >> 8 != _SIGTRAP:
            return False
        return _word(policy.TRACE_PEEK_USER, pid, _RIP) == self._place.address


def stop_at(thread: int, address: int) -> None:
    """Have a thread that is traced, and has stopped, stop again when it is about to execute the instruction there.
    Raises OSError: it has ended, or this processor, or kernel, has no such registers."""
    syscall("ptrace", policy.TRACE_POKE_USER, thread, _FIRST_BREAKPOINT, address)
    syscall("ptrace", policy.TRACE_POKE_USER, thread, policy.BREAKPOINTS, _ENABLE_FIRST)


def stop_nowhere(thread: int) -> None:
    """Undo `stop_at`. Raises OSError."""
    syscall("ptrace", policy.TRACE_POKE_USER, thread, policy.BREAKPOINTS, 0)


def _word(request: int, pid: int, address: int) -> int:
    word = ctypes.c_ulong()
    syscall("ptrace", request, pid, address, ctypes.addressof(word))
    return word.value
