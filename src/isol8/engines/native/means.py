"""What a zygote has for every sandbox that it makes.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import os

from isol8.engines.native import view
from isol8.engines.native.first import First
from isol8.engines.native.request import plain_request
from isol8.kernel import landlock, namespaces, seccomp, user_namespaces

CONTROL = 3  # the descriptor of the socket to the supervisor
# Where the zygote lives between requests; in a user namespace it could not come back to the machine's network.
_HOME = ("mnt", "ipc", "uts")


class Means:
    """What every sandbox of this zygote gets, made once: the system call filter, the Landlock rules (-1: this kernel
    has none), and what covers parts of /proc. `home`: the namespaces that the zygote comes back to; `initial`: whether
    root is really root here; `plain`: what a sandbox is that was asked for by a plain message."""

    def __init__(self) -> None:
        self.initial = user_namespaces.is_initial()
        self.home = [namespaces.open_own(name) for name in (*_HOME, *(("net",) if self.initial else ()))]
        self.filter = seccomp.compile_filter()
        self.proc = view.parts_of_proc()
        try:
            # A copied interpreter has rules of its own, and its runner must be able to kill it.
            self.ruleset = landlock.ruleset_for("/", signals=self.initial)
        except OSError:
            self.ruleset = -1  # an extra where there is one; `isol8 doctor` says why not
        self.plain = plain_request()
        self._spare = os.dup(0)  # the last of those that are always in use
        self.first = self._table() if self.initial else None
        self.rehearsed = False
        self.runner_writes: list[tuple[int, int]] = []
        self.program_writes: list[tuple[int, int]] = []

    def _table(self) -> First | None:
        try:
            return First(self.ruleset, self.filter, [view.PROC, *self.proc], self.home, CONTROL, self._spare)
        except OSError:
            return None  # process 1 is then made in Python

    def go_home(self) -> None:
        """In the zygote: back, wherever it is on the way to a sandbox. Raises OSError."""
        for descriptor in self.home:
            namespaces.enter(descriptor)
        os.dup2(0, self._spare, inheritable=False)

    def leave(self) -> None:
        """In a sandbox: close what leads out of it."""
        for descriptor in (CONTROL, *self.home, self._spare):
            os.close(descriptor)
