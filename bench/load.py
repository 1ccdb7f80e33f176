"""Many closed-loop clients in one thread: each sends its next request when its last one is answered.

Prebuilt requests, one epoll, no parser: some tens of µs of the processor for each call. That is reported beside every
rate, because on two cores the one who measures takes from the one who is measured.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bench.bare import Calls
from bench.connection import Answer, AnswerFailed, check_hello, connect
from tests.support.server import Server

_PIECE = 1 << 18
_SILENCE_S = 120
Next = Callable[[], bytes | None]
Check = Callable[[bytes], bytes]


class _Client:
    """One connection, and the call that is under way on it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.socket = connect(server)
        self.began = 0.0
        self._answer = Answer()

    def send(self, request: bytes) -> None:
        self._answer = Answer()
        self.began = time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The answer's body when all of it is there. Raises AnswerFailed, ConnectionError."""
        piece = self.socket.recv(_PIECE)
        if not piece:
            raise AnswerFailed("the server closed the connection")
        return self._answer.body() if self._answer.feed(piece) else None

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = connect(self._server)


class Load:
    """`count` connections. Use it as a context. `sandboxes` are the names of those that have answered so far."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._count = count
        self._clients: list[_Client] = []
        self.sandboxes: list[bytes] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._clients.append(_Client(self._server))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for client in self._clients:
            client.socket.close()

    def until(self, request: bytes, begin: float, end: float) -> Calls:
        """The same request again and again, from one moment to the other, on the monotonic clock. What is under way at
        the end is waited for."""
        time.sleep(max(0.0, begin - time.monotonic()))
        return self.run(lambda: request if time.monotonic() < end else None)

    def run(self, following: Next, check: Check = check_hello) -> Calls:
        """Send what `following` gives, by whichever client is free, until it gives None and all is answered. `check`
        takes an answer's body and gives the sandbox's name, or raises AnswerFailed, which is counted.

        Raises TimeoutError when no answer comes for two minutes, OSError when the server cannot be reached."""
        cpu = time.process_time()
        with select.epoll() as poll:
            turns = _Turns(poll, following, check, self.sandboxes)
            for client in self._clients:
                turns.join(client)
            while turns.waiting:
                ready = poll.poll(_SILENCE_S)
                if not ready:
                    raise TimeoutError(f"no answer for {_SILENCE_S} s to {len(turns.waiting)} calls")
                for descriptor, _ in ready:
                    turns.receive(descriptor)
        turns.calls.own_cpu_s = time.process_time() - cpu
        return turns.calls

    def check_fresh(self) -> None:
        """Raise AssertionError unless every call so far was answered by a sandbox of its own."""
        used_again = len(self.sandboxes) - len(set(self.sandboxes))
        assert not used_again, f"{used_again} calls were answered by a sandbox that had been used"


class _Turns:
    """Who waits for an answer, by descriptor, and what came of all calls."""

    def __init__(self, poll: select.epoll, following: Next, check: Check, sandboxes: list[bytes]) -> None:
        self._poll = poll
        self._following = following
        self._check = check
        self._sandboxes = sandboxes
        self.calls = Calls()
        self.waiting: dict[int, _Client] = {}

    def join(self, client: _Client) -> None:
        """Let it send its first request, if there is one."""
        request = self._following()
        if request is not None:
            self._poll.register(client.socket, select.EPOLLIN)
            self.waiting[client.socket.fileno()] = client
            client.send(request)

    def _leave(self, client: _Client) -> None:
        self._poll.unregister(client.socket)
        del self.waiting[client.socket.fileno()]

    def receive(self, descriptor: int) -> None:
        """Take what came. If that was an answer's end, count it, and let the client send its next request."""
        client = self.waiting[descriptor]
        try:
            body = client.receive()
            if body is None:
                return
            self._sandboxes.append(self._check(body))
        except (AnswerFailed, ConnectionError) as error:
            self.calls.fail(str(error))
            self._leave(client)
            client.reconnect()
            self.join(client)
            return
        self.calls.spans.append((client.began, time.monotonic()))
        request = self._following()
        if request is None:
            self._leave(client)
        else:
            client.send(request)
