"""The stream of a sandbox: what is attached to its container on one side, a socket for the API process on the other.

Docker's stream carries both outputs in frames of its own, and may run over TLS or ssh. The API process gets a plain
socket, and with it nothing of Docker's. A client of its own for each: the daemon's answer never ends, so that a shared
one would run out of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from aiodocker import Docker

from isol8.engines.carrying import CHUNK_BYTES, Carrying
from isol8.engines.docker.client import Place, connect, disconnect, translated

_LOG = logging.getLogger("isol8.docker")
_STDOUT = 1
_SHOWN_BYTES = 2000


class Stream:
    """`attach`, then `begin`, then at some time `close`."""

    def __init__(self, place: Place, api_version: str) -> None:
        self._client: Docker = connect(place, api_version)
        self._carrying: Carrying | None = None
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
        self._carrying, theirs = await Carrying.begin(self._inwards, self._outwards, ended)
        return theirs

    async def _inwards(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK_BYTES):
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
        if self._carrying:
            await self._carrying.close()
        if hasattr(self, "_attached"):
            with contextlib.suppress(Exception):
                await self._attached.close()
        await disconnect(self._client)
