"""One write for the head of an answer and the beginning of its body, which uvicorn writes apart: each write wakes who
reads, and on a loopback carries the bytes there."""

from __future__ import annotations

import asyncio

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Joined:
    """The transport of one answer, as far as uvicorn uses it. The head is kept until the first piece of the body is
    written, be that empty: whoever sends a head and has no body yet must send such a piece."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._begun = False
        self._head = b""

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""
        if not self._begun and data != _CONTINUE:
            self._begun, self._head = True, data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def close(self) -> None:
        """See asyncio.BaseTransport. A head that has waited in vain is sent."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""
        self._transport.close()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._transport.is_closing()
