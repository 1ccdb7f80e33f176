"""Who of the runner's children has ended; of the last program, before the kernel has taken it apart."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # typing would be half a megabyte in every sandbox


class Stops(Protocol):
    """What makes a process stop at its end. The engine makes it; see kernel/exit_stops.py."""

    unfinished: bool  # who has stopped may still do something when it is let go

    def watch(self, pid: int) -> None:
        """Have a child stop at its end, if that can be had."""

    def status(self, pid: int, stop: int) -> int | None:
        """What waitpid will say of one that has stopped, if it is about to exit."""

    def let_go(self, pid: int, stop: int = 0) -> None:
        """Let one that has stopped go on, and watch it no longer."""


class Ends:
    """What waitpid(2) tells, without stops: whoever has only stopped is let go on. Without `stops` nobody is watched.

    `left` is the process of a program that is over, and was left as it stopped at its end; 0: none.
    """

    def __init__(self, stops: Stops | None) -> None:
        self._stops = stops
        self.left = 0

    def watch(self, pid: int) -> None:
        """This child is a program, the last one: `next` may tell early of its end."""
        if self._stops:
            self._stops.watch(pid)

    def next(self, last: int, *, wait: bool = False) -> tuple[int, int] | None:
        """(process, status) of one that has ended; None if none has. `last` is a program that need not be taken apart
        before it is told of."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if self._stopped(pid, status):
                ending = self._stops.status(pid, status) if self._stops and pid == last else None
                if ending is not None:
                    self.left = pid
                    return pid, ending
                self._let_go(pid, status)
            elif pid == self.left:
                self.left = 0  # it has been told of
                if wait:
                    return None
            else:
                return pid, status

    def of(self, pid: int, *, wait: bool = False) -> bool:
        """Whether this child has ended, which is not told again. Raises ChildProcessError: that was told before."""
        while True:
            found, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
            if not self._stopped(found, status):
                return found != 0
            self._let_go(pid, status)

    @property
    def unfinished(self) -> bool:
        """Whether the process in `left` may still do something."""
        return bool(self.left and self._stops and self._stops.unfinished)

    def take_left_apart(self) -> None:
        """Let the kernel go on with the process in `left`. `next` is to be called until it is gone."""
        if self.left:
            self._let_go(self.left, 0)

    def _stopped(self, pid: int, status: int) -> bool:
        return pid != 0 and os.WIFSTOPPED(status)

    def _let_go(self, pid: int, stop: int) -> None:
        if self._stops:
            self._stops.let_go(pid, stop)
