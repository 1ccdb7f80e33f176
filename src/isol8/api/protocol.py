"""HTTP/1.1 as uvicorn speaks it, save that a request that is not HTTP is told so as everything else is: in JSON.

And that a client can hold nothing for long by doing little. Neither the parser nor uvicorn bounds any of this:

- a request's head, and the trailers of a chunked body, in size and time: they come before anyone has shown a key;
- a body that trickles: in any `grace_s` at least `min_rate` times as many bytes must come, else it is a 408;
- an answer that is not read: as many bytes of it must leave, else the connection is cut;
- a body that still comes when it has been answered (413, 401): it is read away for `grace_s`, so that the answer is not
  lost in a reset, and then the connection is closed;
- the number of connections: crowd.py; and of requests that wait behind another on one connection.

A request that waits behind another has its time when its turn comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from isol8.api.crowd import Crowd, Place, neighbourhood
from isol8.api.joined import Joined

_HEAD_BYTES = 64 * 1024
_HEAD_TIMEOUT_S = 30.0
_PIPELINED = 64
_TOLD_TIMEOUT_S = 2.0  # within which a connection that is too many must say something to be answered


@dataclass(frozen=True, slots=True)
class Bounds:
    """See above. `min_rate` is in bytes per second."""

    crowd: Crowd
    min_rate: int
    grace_s: float


class Protocol(HttpToolsProtocol):
    """One connection; `within` gives the class a server uses. `_fruitless` counts the bytes that came since the parser
    last made something of them, `_received` those of the body."""

    bounds: ClassVar[Bounds]
    _place = Place.NONE
    _fruitless = 0
    _patience: asyncio.TimerHandle | None = None
    _receiving = False
    _received = 0
    _body_watch: asyncio.TimerHandle | None = None
    _answer_watch: asyncio.TimerHandle | None = None

    @classmethod
    def within(cls, bounds: Bounds) -> type[Protocol]:
        """The protocol of one server."""
        return type("BoundProtocol", (cls,), {"bounds": bounds})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: there is a client, who may take only so long to say what it wants."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._address = neighbourhood(self.client[0] if self.client else "")
        self._place = self.bounds.crowd.enter(self._address)
        if self._place is Place.NONE:
            self.transport.abort()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self.bounds.crowd.leave(self._address, self._place)
        self._stop_waiting()
        self._stop_watching_body()
        self._stop_watching_answer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        if self._place is not Place.SERVED:
            self._turn_away()
            return
        self._fruitless += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._fruitless > _HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large")
        elif self._receiving and self._body_watch is None:
            self._watch_body()
        elif self._fruitless and self._patience is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The parser: the head is whole."""
        self._progress()
        self._receiving = True
        if len(self.pipeline) >= _PIPELINED:
            raise RuntimeError("too many requests at once")  # which the parser makes its own error
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["method"] != "HEAD":  # whose answer's body is never written
            self.cycle.transport = Joined(self.transport)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """The parser: a piece of the body."""
        self._progress()
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser: the request is whole."""
        self._progress()
        self._receiving = False
        self._stop_watching_body()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this when the parser gives up."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we write."""
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        """asyncio: it has read."""
        self._stop_watching_answer()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """uvicorn calls this when the last of an answer is handed over. It need not be sent."""
        if self.transport.get_write_buffer_size():
            self._watch_answer()
        elif self._answer_watch:
            self._stop_watching_answer()
        if self._body_watch:
            self._watch_body()  # of the request behind it, whose turn it is; or of this one, answered early
        super().on_response_complete()

    def _progress(self) -> None:
        self._fruitless = 0
        self._stop_waiting()

    def _wait_for_head(self) -> None:
        if self._place is Place.TOLD:
            self._patience = self.loop.call_later(_TOLD_TIMEOUT_S, self._turn_away)
            return
        message = "The head of the request took too long"
        self._patience = self.loop.call_later(_HEAD_TIMEOUT_S, self._refuse, HTTPStatus.REQUEST_TIMEOUT, message)

    def _stop_waiting(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _watch_body(self) -> None:
        self._stop_watching_body()
        self._body_watch = self.loop.call_later(self.bounds.grace_s, self._judge_body, self._received)

    def _judge_body(self, before: int) -> None:
        """Whether enough of the body has come since the last look."""
        self._body_watch = None
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self.transport.close()
        elif (
            self.pipeline
            or self.flow.read_paused
            or self._received - before >= self.bounds.min_rate * self.bounds.grace_s
        ):
            self._watch_body()
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The body of the request came too slowly")

    def _stop_watching_body(self) -> None:
        if self._body_watch:
            self._body_watch.cancel()
            self._body_watch = None

    def _watch_answer(self) -> None:
        self._stop_watching_answer()
        waiting = self.transport.get_write_buffer_size()
        self._answer_watch = self.loop.call_later(self.bounds.grace_s, self._judge_answer, waiting)

    def _judge_answer(self, before: int) -> None:
        """Whether enough of the answer has been read since the last look: nothing was written meanwhile, unless another
        answer has begun, which is watched as soon as it has to wait."""
        self._answer_watch = None
        waiting = self.transport.get_write_buffer_size()
        idle = self.cycle.response_complete or self.transport.is_closing()
        if not waiting or not (idle or self.flow.write_paused):
            return
        if before - waiting >= self.bounds.min_rate * self.bounds.grace_s:
            self._watch_answer()
        else:
            self.transport.abort()

    def _stop_watching_answer(self) -> None:
        if self._answer_watch:
            self._answer_watch.cancel()
            self._answer_watch = None

    def _turn_away(self) -> None:
        """Tell a connection that is too many."""
        if not self.transport.is_closing():
            message = "The server has too many connections; try again"
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, message, "at_capacity", "retry-after: 1\r\n")

    def _refuse(self, status: HTTPStatus, message: str, code: str | None = None, headers: str = "") -> None:
        """Say why, and hang up."""
        self._stop_waiting()
        self._stop_watching_body()
        body = orjson.dumps({"error": message} if code is None else {"error": message, "code": code})
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
