"""Work that goes on after whoever asked for it was answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from isol8.errors import EngineFailure

_LOG = logging.getLogger("isol8.tasks")


class Tasks:
    """Tasks that nobody waits for while they run. `finish` waits for all of them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`. Its failure is logged; the task may also be awaited."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, EngineFailure):
            _LOG.warning("%s: %s", task.get_coro(), error.message)
        elif error:
            _LOG.error("a task failed", exc_info=error)

    async def finish(self) -> None:
        """Wait until every task has ended, those that they start included."""
        while self._running:
            await asyncio.wait(self._running)
