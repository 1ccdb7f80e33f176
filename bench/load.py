"""Many closed-loop clients in one thread: each sends its next request when its last one is answered.

Prebuilt requests, one epoll, no parser: about a tenth of a millisecond of the processor for each call, most of it in
the kernel. That is reported beside every rate, because on two cores the one who measures takes from the one who is
measured.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.bare import Calls
from bench.connection import Answer, AnswerFailed, check_hello, connect
from bench.paced import uncollected
from tests.support.server import Server

_PIECE = 1 << 18
_SILENCE_S = 120
Next = Callable[[], bytes | None]
Check = Callable[[bytearray], bytes]


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

    def receive(self) -> bytearray | None:
        """The answer's body when all of it is there. Raises AnswerFailed, ConnectionError."""
        piece = self.socket.recv(_PIECE)
        if not piece:
            raise AnswerFailed("the server closed the connection")
        return self._answer.body() if self._answer.feed(piece) else None

    def reconnect(self) -> None:
        self.close()
        self.socket = connect(self._server)

    def close(self) -> None:
        self.socket.close()


class Load:
    """`count` clients. Each run has connections of its own, which are kept open while it lasts: between runs the server
    would close them. `sandboxes` are the names of those that have answered so far."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._count = count
        self.sandboxes: list[bytes] = []

    def until(self, request: bytes, begin: float, end: float) -> Calls:
        """The same request again and again, from one moment to the other, on the monotonic clock. What is under way at
        the end is waited for."""
        return self.run(lambda: request if time.monotonic() < end else None, begin=begin)

    def run(self, following: Next, check: Check = check_hello, begin: float = 0.0) -> Calls:
        """Send what `following` gives, by whichever client is free, until it gives None and all is answered. `check`
        takes an answer's body and gives the sandbox's name, or raises AnswerFailed, which is counted.

        Raises TimeoutError when no answer comes for two minutes, OSError when the server cannot be reached."""
        with ExitStack() as stack, select.epoll() as poll:
            turns = _Turns(poll, following, check, self.sandboxes)
            clients = [_Client(self._server) for _ in range(self._count)]
            for client in clients:
                stack.callback(client.close)
            time.sleep(max(0.0, begin - time.monotonic()))
            cpu = time.process_time()
            with uncollected():
                for client in clients:
                    turns.join(client)
                while turns.waiting:
                    turns.receive_all()
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

    def receive_all(self) -> None:
        """Wait until something comes, and take it. Raises TimeoutError."""
        ready = self._poll.poll(_SILENCE_S)
        if not ready:
            raise TimeoutError(f"no answer for {_SILENCE_S} s to {len(self.waiting)} calls")
        for descriptor, _ in ready:
            self._receive(descriptor)

    def _receive(self, descriptor: int) -> None:
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
