"""The stream of a sandbox: what is attached to its container on one side, a socket for the API process on the other.

Docker's stream carries both outputs in frames of its own, and may run over TLS or ssh. The API process gets a plain
socket, and with it nothing of Docker's. A client of its own for each: the daemon's answer never ends, so that a shared
one would run out of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from aiodocker import Docker

from isol8.engines.docker.client import Place, connect, disconnect, translated

_LOG = logging.getLogger("isol8.docker")
_CHUNK_BYTES = 64 * 1024
_STDOUT = 1
_SHOWN_BYTES = 2000


class Stream:
    """`attach`, then `begin`, then at some time `close`."""

    def __init__(self, place: Place, api_version: str) -> None:
        self._client: Docker = connect(place, api_version)
        self._task: asyncio.Task[None] | None = None
        self._said = b""

    async def attach(self, name: str) -> None:
        """Attach to a container that has been made and not started. Raises DaemonFailure."""
        self._attached = self._client.containers.container(name).attach(stdin=True, stdout=True, stderr=True)
        with translated("a container could not be attached to"):
            await self._attached.__aenter__()

    async def begin(self, first: bytes, ended: Callable[[], None]) -> int:
        """Send `first`, then carry bytes both ways. The API process's end of the socket (the caller's to close).
        `ended` is called when the container, or the API process, has let go."""
        with translated("a container does not take its input"):
            await self._attached.write_in(first)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._task = asyncio.create_task(self._carry(ours, ended))
        return theirs.detach()

    async def _carry(self, ours: socket.socket, ended: Callable[[], None]) -> None:
        reader, writer = await asyncio.open_connection(sock=ours, limit=_CHUNK_BYTES)
        both = [asyncio.create_task(self._inwards(reader)), asyncio.create_task(self._outwards(writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()
            ended()

    async def _inwards(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._attached.write_in(data)

    async def _outwards(self, writer: asyncio.StreamWriter) -> None:
        while message := await self._attached.read_out():
            if message.stream == _STDOUT:
                writer.write(message.data)
                await writer.drain()
            elif len(self._said) < _SHOWN_BYTES:
                self._said += message.data
                _LOG.error("a runner said: %s", message.data[:_SHOWN_BYTES].decode(errors="replace").strip())

    async def close(self) -> None:
        """Let go of both sides. Idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if hasattr(self, "_attached"):
            with contextlib.suppress(Exception):
                await self._attached.close()
        await disconnect(self._client)
