"""Exclusive use of a sandbox for one execution."""

from __future__ import annotations

from collections.abc import Callable

from isol8.engines.sandbox import Sandbox


class Lease:
    """A sandbox that is the holder's alone, until it calls `release`.

    `running` is the holder's to set: whether a program may still run in the sandbox when it is released. `check` raises
    what the caller should be told if the sandbox was taken away, and does nothing if it was not. `once`: the sandbox
    ends with it.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        give_back: Callable[[bool], None],
        check: Callable[[], None] = lambda: None,
        warnings: tuple[str, ...] = (),
        *,
        once: bool = False,
    ) -> None:
        self.sandbox = sandbox
        self.check = check
        self.warnings = warnings
        self.once = once
        self.running = False
        self._give_back = give_back
        self._afterwards: Callable[[], None] = lambda: None

    def and_then(self, afterwards: Callable[[], None]) -> Lease:
        """This lease, whose release ends with a call of `afterwards`."""
        self._afterwards = afterwards
        return self

    def release(self) -> None:
        """Let go of it. Returns at once; what there is to clear away is cleared away afterwards."""
        self._give_back(self.running)
        self._afterwards()
