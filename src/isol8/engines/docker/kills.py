"""Kills for memory that take the whole container along, and with it the cgroup that has counted them.

Under gVisor the kernel of a sandbox is one process, which is what the machine's kernel kills. The daemon sees it, and
tells of it before the container's end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from isol8.engines.docker.client import DaemonFailure, Place, connect, disconnect, translated

_LOG = logging.getLogger("isol8.docker")
_AGAIN_S = 1.0
_PATIENCE_S = 10.0
_REMEMBERED = 4096  # containers; of those that have ended, only the last are asked about


class Kills:
    """Counts them from `start` to `close`. While the daemon is away none are seen; its containers are gone then."""

    def __init__(self, place: Place, label: str) -> None:
        self._place = place
        self._filters = json.dumps({"event": ["oom", "die"], "label": [label]})
        self._counts: OrderedDict[str, int] = OrderedDict()  # also of those that ended without any
        self._ended: dict[str, asyncio.Event] = {}  # of those that somebody waits for
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen. Returns at once."""
        self._task = asyncio.create_task(self._listen())

    async def of(self, container: str, *, ending: bool) -> int:
        """How many there have been in a container. When it is `ending`, the daemon's word is waited for, a while."""
        if ending and container not in self._counts:
            event = self._ended.setdefault(container, asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await event.wait()
            self._ended.pop(container, None)
        return self._counts.get(container, 0)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except DaemonFailure as error:
                _LOG.warning("kills for memory are not heard of: %s", error.message)
            await asyncio.sleep(_AGAIN_S)

    async def _listen_once(self) -> None:
        client = connect(self._place)
        try:
            with translated("the daemon does not tell of kills for memory"):
                async with client._query("events", params={"filters": self._filters}, timeout=None) as answer:
                    async for line in answer.content:
                        self._take(json.loads(line))
        finally:
            await disconnect(client)

    def _take(self, event: dict[str, Any]) -> None:
        container = event.get("id", "")
        self._counts[container] = self._counts.pop(container, 0) + (event.get("Action") == "oom")
        if container in self._ended:
            self._ended[container].set()
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
