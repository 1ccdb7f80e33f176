"""HTTP/1.1 as programs in a sandbox send it: one strict reading of each request, or none.

h11 parses; before that, the head's bytes are checked for all that two readers could take in two ways. Whatever goes on
from here is written anew by h11 (`exchange.py`), never copied.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import h11

from isol8.egress.streams import Stream

MAX_HEAD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024
_MAX_FIELDS = 100
_HEAD_TIMEOUT_S = 20.0
_IDLE_TIMEOUT_S = 300.0
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ANSWER = (
    b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
)
_BARE = re.compile(rb"(?<!\r)\n|\r(?![\n]|\Z)")
_CONTROLS = "The request's head has a bare line break or another control character in it"
_LENGTH = re.compile(rb"[0-9]{1,18}")


class BadRequest(Exception):
    """Nothing can be made of it; the message says why, as a sentence. `status` is what to answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Incoming:
    """The client's side of a connection: `next_request`, its `body`, and an answer with `send`; then the next one.

    Each request has an h11 connection of its own; `rest` is what came after it.
    """

    def __init__(self, stream: Stream, rest: bytes = b"") -> None:
        self.stream = stream
        self.rest = rest
        self._h11 = h11.Connection(h11.SERVER)

    async def next_request(self) -> h11.Request | None:
        """The head of the next one; None at the end. Raises BadRequest, OSError."""
        if not self.rest:
            try:
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    self.rest = await self.stream.read()
            except TimeoutError:
                return None
        if not self.rest:
            return None
        head = await self._read_head()
        _check_head(head)
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._h11.receive_data(head)
        try:
            request = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(f"The request is malformed: {_brief(error)}", error.error_status_hint) from None
        assert isinstance(request, h11.Request)
        if request.http_version not in (b"1.0", b"1.1"):
            raise BadRequest("The request is not HTTP/1.1", 505)
        _check_fields(head, request.http_version)
        return request

    async def _read_head(self) -> bytes:
        data, seen = self.rest, 0
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                while (end := data.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
                    if _BARE.search(data, max(0, seen - 1)):
                        raise BadRequest(_CONTROLS)
                    if len(data) > MAX_HEAD_BYTES:
                        raise BadRequest("The request's head is too long", 431)
                    seen = len(data)
                    piece = await self.stream.read()
                    if not piece:
                        raise BadRequest("The request's head has no end")
                    data += piece
        except TimeoutError:
            raise BadRequest("The request's head took too long", 408) from None
        if end > MAX_HEAD_BYTES:
            raise BadRequest("The request's head is too long", 431)
        self.rest = data[end + 4 :]
        return data[: end + 4]

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body, piece by piece; nothing when all of it was given already. Raises BadRequest, OSError."""
        if self._h11.their_state is not h11.SEND_BODY:
            return
        if self.rest:
            self._h11.receive_data(self.rest)
            self.rest = b""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise BadRequest(f"The request's body is malformed: {_brief(error)}") from None
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif event is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.read())
            else:
                break
        self.rest = self._h11.trailing_data[0]

    @property
    def reusable(self) -> bool:
        """Whether another request can follow, now that this one was answered."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def send(self, event: h11.Event) -> None:
        """A part of the answer. Raises OSError."""
        data = self._h11.send(event)
        if data:
            await self.stream.write(data)

    async def answer(self, status: int, text: str) -> None:
        """A whole answer of the proxy's own, after which the connection is closed. Raises OSError."""
        body = f"isol8: {text}\n".encode()
        reason = {403: b"Forbidden", 400: b"Bad Request", 502: b"Bad Gateway"}.get(status, b"Refused")
        await self.stream.write(_ANSWER % (status, reason, len(body)) + body)


def _check_head(head: bytes) -> None:
    """Raises BadRequest for bytes that readers of HTTP disagree about, and for too many."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if any(_CONTROL.search(line) for line in lines):
        raise BadRequest(_CONTROLS)
    if any(len(line) > _MAX_LINE_BYTES for line in lines):
        raise BadRequest("A line of the request's head is too long", 431)
    if any(line[:1] in (b" ", b"\t", b"") for line in lines):
        raise BadRequest("The request's head has a folded or an empty line")
    if len(lines) > _MAX_FIELDS + 1:
        raise BadRequest("The request has too many fields", 431)


def _check_fields(head: bytes, version: bytes) -> None:
    """Raises BadRequest when it is not certain where the request ends, or for whom it is.

    Looks at the lines themselves: h11 makes one field of two that agree, and lets one win over another.
    """
    fields = [line.partition(b":")[::2] for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]]
    lengths, encodings, hosts = (
        [value.strip(b" \t") for name, value in fields if name.lower() == wanted]
        for wanted in (b"content-length", b"transfer-encoding", b"host")
    )
    if max(len(lengths), len(encodings), len(hosts)) > 1:
        raise BadRequest("A field that may be there once is there twice")
    if lengths and encodings:
        raise BadRequest("The request has both Content-Length and Transfer-Encoding")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise BadRequest("The request's Content-Length is not a number")
    if encodings and version == b"1.0":
        raise BadRequest("The request has a Transfer-Encoding, which HTTP/1.0 does not know")
    if not hosts and version == b"1.1":
        raise BadRequest("The request has no Host")


def _brief(error: h11.RemoteProtocolError) -> str:
    return str(error)[:200]
