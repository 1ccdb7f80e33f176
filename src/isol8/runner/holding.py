"""An interpreter that was started before its program, and is held where it opens it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from isol8.runner.stamps import Stamps
    from isol8.runner.worker import Worker
else:
    Protocol = object  # typing would be half a megabyte in every sandbox

HOME = "/sandbox"


class Boot:
    """What waits in the sandbox before the first request.

    `executable` and `argv` start an interpreter ahead of time, which boots and is held where it opens its program file,
    `path`, for the `opens`th time. `stamps`: where it keeps the moment at which it was started, if it counts from that;
    see stamps.py. `forked`: rather, a worker is forked, which is what `argv` would be. Without argv, one is forked too.
    """

    def __init__(
        self, executable: str, argv: list[bytes], path: str, opens: int, stamps: list[int], forked: bool
    ) -> None:
        self.executable = executable
        self.argv = argv
        self.path = path
        self.opens = opens
        self.stamps = stamps
        self.forked = forked


class Gate(Protocol):
    """What holds whoever opens the program file. The engine makes it; see kernel/gates.py."""

    descriptor: int  # can be read when somebody has come

    def arrive(self) -> None:
        """Somebody has come."""

    def pass_on(self) -> None:
        """Let go on who has come, and stay."""

    def in_place(self) -> bool:
        """Whether the program file is still the one the gate is at."""

    def open(self, content: bytes) -> None:
        """Fill the file, and let go on who is held. Raises OSError; the gate is then still closed."""

    def close(self) -> None:
        """Take the gate away. Idempotent."""

    def forget(self) -> None:
        """Let the kernel forget a gate that was opened or closed. That may wait for it."""


class Held:
    """An interpreter that has booted and is held at the gate."""

    def __init__(self, worker: Worker, argv: list[bytes], path: str, gate: Gate) -> None:
        self.worker = worker
        self.stamps: Stamps | None = None
        self.argv = argv
        self.path = path
        self.gate = gate

    def serves(self, argv: list[bytes], env: list[bytes], directory: str) -> bool:
        """Whether it is just what was asked for: its arguments, environment and directory are those it was started
        with. A user's own site directory is looked at while Python boots, so it needs a fresh one."""
        as_started = self.argv == argv and not env and directory == HOME
        return as_started and not os.path.isdir(f"{HOME}/.local") and self.gate.in_place()

    def starts_now(self) -> bool:
        """Have it count from now on, if it counts. Whether that could be done."""
        try:
            if self.stamps:
                self.stamps.renew()
        except OSError:
            return False
        return True

    def release(self, source: bytes) -> None:
        """Let it find the program. Raises OSError: no room; it is then still held."""
        self.gate.open(source)
        if self.stamps:
            self.stamps.close()

    def end(self) -> None:
        """End it: the request needs another interpreter, or a file of that name. The caller reaps the process."""
        self.worker.close()
        if self.stamps:
            self.stamps.close()
        try:
            os.kill(self.worker.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.gate.in_place():
            os.unlink(self.path)
        self.gate.close()
