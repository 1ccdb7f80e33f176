"""A socket for the API process to a sandbox that its engine reaches by other means: bytes are carried both ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

CHUNK_BYTES = 64 * 1024
Work = Coroutine[Any, Any, None]


class Carrying:
    """What carries. `begin` makes one; `close` it."""

    def __init__(self, writer: asyncio.StreamWriter, inwards: Work, outwards: Work, ended: Callable[[], None]) -> None:
        self._writer = writer
        self._ended: Callable[[], None] | None = ended  # until it is called
        self._both = [asyncio.create_task(inwards), asyncio.create_task(outwards)]
        for task in self._both:
            task.add_done_callback(self._end)

    @classmethod
    async def begin(
        cls,
        inwards: Callable[[asyncio.StreamReader], Work],
        outwards: Callable[[asyncio.StreamWriter], Work],
        ended: Callable[[], None],
    ) -> tuple[Carrying, int]:
        """One that carries, and the API process's end of the socket (the caller's to close). `ended` is called when
        either side has let go; the other direction is given up then."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours, limit=CHUNK_BYTES)
            return cls(writer, inwards(reader), outwards(writer), ended), theirs.detach()

    def _end(self, _: asyncio.Task[None]) -> None:
        """One direction is over. A callback, since a task that waits for that may be cancelled before it closes
        anything."""
        ended, self._ended = self._ended, None
        if ended:
            self._writer.close()
            ended()
        for task in self._both:
            task.cancel()

    async def close(self) -> None:
        """Returns when nothing is carried any more. Idempotent."""
        for task in self._both:
            task.cancel()
        await asyncio.gather(*self._both, return_exceptions=True)
