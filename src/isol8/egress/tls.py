"""The server's side of TLS over any stream, of which something may have been read already."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import TypeVar

from isol8.egress.streams import CHUNK_BYTES, Stream

_HANDSHAKE_TIMEOUT_S = 20.0

Result = TypeVar("Result")


class TlsStream:
    """See Stream. `accept` makes it."""

    def __init__(self, stream: Stream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @classmethod
    async def accept(cls, stream: Stream, context: ssl.SSLContext) -> TlsStream:
        """Shake hands. Raises OSError (ssl.SSLError is one), also when it takes too long."""
        made = cls(stream, context)
        async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
            await made._until_done(made._tls.do_handshake)
        return made

    async def _until_done(self, step: Callable[[], Result]) -> Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._stream.read()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._stream.write(data)

    async def read(self) -> bytes:
        """See Stream."""
        try:
            return await self._until_done(lambda: self._tls.read(CHUNK_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """See Stream."""
        view = memoryview(data)
        while view:
            view = view[await self._until_done(lambda rest=view: self._tls.write(rest)) :]  # type: ignore[misc]

    async def end(self) -> None:
        """See Stream."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    def close(self) -> None:
        """See Stream."""
        self._stream.close()
