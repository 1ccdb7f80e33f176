"""One connection to a server, as cheap as can be: requests are made once, answers are read by their length."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.server import Server

_HEAD_END = b"\r\n\r\n"
_HELLO = b'"stdout":"hello\\n"'
_ID = b'"containerId":"'
_TIMEOUT_S = 120
_PIECE = 1 << 20


class AnswerFailed(Exception):
    """It was not what it should be. The message is short, and the same for the same trouble."""


def post(server: Server, path: str, body: dict[str, Any]) -> bytes:
    """The bytes of a POST request."""
    return _request(server, "POST", path, json.dumps(body).encode())


def hello(server: Server, runtime: str, code: str, **beside: Any) -> bytes:
    """The bytes of a request to execute a program. `beside` goes beside `request`."""
    return post(server, "/execute", {"request": {"code": code, "runtime": runtime}, **beside})


def bodiless(server: Server, method: str, target: str) -> bytes:
    """The bytes of a GET or DELETE request."""
    return _request(server, method, target, b"")


def _request(server: Server, method: str, target: str, body: bytes) -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def check_hello(body: bytes | bytearray) -> bytes:
    """The name of the sandbox in which hello was printed. Raises AnswerFailed when it was not."""
    if _HELLO not in body:
        raise AnswerFailed("stdout is not hello")
    return bytes(body.partition(_ID)[2].partition(b'"')[0])


class Answer:
    """An answer as it comes in. Feed it until it says that it is whole."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._body_at = 0
        self._size = 0

    def feed(self, piece: bytes) -> bool:
        """Whether this was the last of it."""
        self._bytes += piece
        if not self._body_at:
            end = self._bytes.find(_HEAD_END)
            if end < 0:
                return False
            self._body_at = end + len(_HEAD_END)
            length = self._bytes[:end].lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._size = self._body_at + int(length)
        return len(self._bytes) >= self._size

    def body(self) -> bytearray:
        """Raises AnswerFailed unless the status is 200. Use it once."""
        status = self._bytes[9:12]
        del self._bytes[: self._body_at]  # without a copy of what may be 100 MB
        if status != b"200":
            raise AnswerFailed(f"{status.decode()}: {self._bytes[:80].decode(errors='replace')}")
        return self._bytes


class Connection:
    """Blocking, one call at a time. Use it as a context."""

    def __init__(self, server: Server) -> None:
        self.socket = connect(server)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def call(self, request: bytes) -> bytearray:
        """The body of the answer. Raises AnswerFailed, OSError."""
        self.socket.sendall(request)
        answer = Answer()
        while True:
            piece = self.socket.recv(_PIECE)
            if not piece:
                raise AnswerFailed("the server closed the connection")
            if answer.feed(piece):
                return answer.body()


def connect(server: Server) -> socket.socket:
    """A socket to the server; the caller closes it."""
    made = socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=_TIMEOUT_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
