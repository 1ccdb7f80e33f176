"""HTTP/1.1 as uvicorn speaks it, save that a request that is not HTTP is told so as everything else is: in JSON.

And that what is not yet a request is bounded: neither the parser nor uvicorn limits a request's head, or the trailers
of a chunked body, and all of that comes before anyone has shown a key.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_BYTES = 64 * 1024
_HEAD_TIMEOUT_S = 30.0


class Protocol(HttpToolsProtocol):
    """One connection. `_fruitless` counts the bytes that came since the parser last made something of them."""

    _fruitless = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: there is a client, who may take only so long to say what it wants."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        self._fruitless += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._fruitless > _HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large")
        elif self._fruitless and self._patience is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The parser: the head is whole."""
        self._progress()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser: a piece of the body."""
        self._progress()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser: the request is whole."""
        self._progress()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this when the parser gives up."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _progress(self) -> None:
        self._fruitless = 0
        self._stop_waiting()

    def _wait_for_head(self) -> None:
        message = "The head of the request took too long"
        self._patience = self.loop.call_later(_HEAD_TIMEOUT_S, self._refuse, HTTPStatus.REQUEST_TIMEOUT, message)

    def _stop_waiting(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Say why, and hang up."""
        self._stop_waiting()
        body = orjson.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
