"""A bound on how long a program may run in a sandbox."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import EngineFailure
from isol8.tasks import Tasks

_GRACE_S = 5.0
_SESSION_GRACE_S = 30.0  # a machine may be busy, and a session loses all it has


class Deadline:
    """Within the block, what runs in `sandbox` is killed after `milliseconds`; `passed` tells.

    A sandbox that does not confirm the kill, or whose program does not end by it within five seconds, is destroyed; one
    that does not end with this program (`once` is false) has half a minute.
    Either way `Sandbox.run` ends, so whoever reads from it is neither cancelled nor left waiting.
    """

    def __init__(self, milliseconds: int, sandbox: Sandbox, engine: Engine, tasks: Tasks, *, once: bool) -> None:
        self.passed = False
        self._grace_s = _GRACE_S if once else _SESSION_GRACE_S
        self._seconds = milliseconds / 1000
        self._sandbox = sandbox
        self._engine = engine
        self._tasks = tasks
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._give_up)
        self._tasks.start(self._kill())

    async def _kill(self) -> None:
        try:
            await self._sandbox.kill()
        except EngineFailure:
            await self._engine.destroy(self._sandbox)

    def _give_up(self) -> None:
        self._tasks.start(self._engine.destroy(self._sandbox))
