"""Kills for memory that take the whole container along, and with it the cgroup that has counted them.

That is so when files fill the memory, since only the runner is left to kill then; and always under gVisor, where the
kernel of a sandbox is one process. The daemon sees it, and tells of it before it tells of the container's end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from isol8.engines.docker.client import DaemonFailure, Place, connect, disconnect, translated
from isol8.engines.docker.description import LABEL

_LOG = logging.getLogger("isol8.docker")
_AGAIN_S = 1.0
_PATIENCE_S = 30.0  # for a daemon that is busy: who has no word by then is told of no kill
_REMEMBERED = 4096  # containers; of those that have ended, only the last are asked about


@dataclass(slots=True)
class _Seen:
    """What the daemon has said of one container. `over`: there will be no more."""

    kills: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Kills:
    """Counts them from `start` to `close`. While the daemon is away none are seen; its containers are gone then.
    A container that has one of `labels` is this server's: those that it has taken over have another server's, which
    cannot change. `heard` is called with the container of each, at once: its cgroup may still be there."""

    def __init__(self, place: Place, labels: dict[str, str], heard: Callable[[str], None]) -> None:
        self._place = place
        self._labels = labels
        self._filters = json.dumps({"event": ["oom", "die"], "label": [LABEL]})
        self._heard = heard
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._listening = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen. Returns at once."""
        self._task = asyncio.create_task(self._listen())

    async def of(self, container: str, *, ending: bool) -> int:
        """How many there have been in a container. When it is `ending`, the daemon's word is waited for, a while."""
        seen = self._of(container)
        if ending and self._listening:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await seen.over.wait()
        return seen.kills

    def _of(self, container: str) -> _Seen:
        seen = self._seen[container] = self._seen.pop(container) if container in self._seen else _Seen()
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return seen

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
                    self._listening = True
                    async for line in answer.content:
                        self._take(json.loads(line))
        finally:
            self._listening = False
            for seen in self._seen.values():
                seen.over.set()
            await disconnect(client)

    def _take(self, event: dict[str, Any]) -> None:
        if not self._labels.items() & event.get("Actor", {}).get("Attributes", {}).items():
            return
        container = event.get("id", "")
        seen = self._of(container)
        if event.get("Action") == "oom":
            seen.kills += 1
            self._heard(container)
        else:
            seen.over.set()

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
