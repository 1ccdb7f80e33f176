"""Learning that a process ends before the kernel takes its memory and threads apart: by ptrace(2), on x86-64.

Who is watched stops when it exits, while it still has everything, and stays so until it is let go. On the way to there
a signal stops it too. It is then let go for good, with its signal: it must not wait for a tracer every time, and the
tracer must not wait on somebody who sends it signals without end. How it ends is then seen in the ordinary way.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import ctypes
import os

from isol8.kernel import seccomp_policy as policy
from isol8.kernel.syscalls import MACHINE, syscall

_EVENT_EXIT = 6
_ORIG_RAX = 15 * 8  # in struct user
_EXIT_GROUP = 231


class ExitStops:
    """The stops of those this process watches, which all are its children, or theirs: a child that is made with
    CLONE_PTRACE is watched like its parent."""

    def __init__(self) -> None:
        self._watched = 0

    def watch(self, pid: int) -> None:
        """Have the main thread of a child stop at its end. Where that cannot be had, it ends as ever."""
        if pid == self._watched or MACHINE != "x86_64":
            return
        try:
            syscall("ptrace", policy.TRACE_SEIZE, pid, 0, policy.TRACE_EXIT)
        except OSError:
            return  # it has ended, it has signed its own rights away, or nobody may trace here
        self._watched = pid

    def status(self, pid: int, stop: int) -> int | None:
        """What waitpid will say of who has stopped, if all of the process is about to exit, and by its own call.
        `stop` is what waitpid said now.

        A first thread may end before the others: then it makes another call. One that is killed, by a signal or since
        another thread exits, tells less plainly what it ends of; so that is left to the ordinary way.
        """
        if stop >> 16 != _EVENT_EXIT:
            return None
        try:
            if _word(policy.TRACE_PEEK_USER, pid, _ORIG_RAX) != _EXIT_GROUP:
                return None
            status = _word(policy.TRACE_GET_EVENT_MESSAGE, pid, 0)
        except ProcessLookupError:
            return None  # it was killed meanwhile
        return status if os.WIFEXITED(status) else None

    def let_go(self, pid: int, stop: int = 0) -> None:
        """Let who has stopped go on, with the signal that it stopped for, and watch it no longer."""
        signal = 0 if stop >> 16 else os.WSTOPSIG(stop)
        try:
            syscall("ptrace", policy.TRACE_DETACH, pid, 0, signal)
        except ProcessLookupError:
            return  # it was killed meanwhile


def _word(request: int, pid: int, address: int) -> int:
    word = ctypes.c_ulong()
    syscall("ptrace", request, pid, address, ctypes.addressof(word))
    return word.value
