"""Carries connections from a port of the sandbox's loopback to a unix socket that reaches in from outside.

For sandboxes whose network namespace nobody outside can open a socket in. Who listens on the unix socket, and whether
anybody does, is decided outside: without anybody, connections are closed as soon as they are made. What a program gets
by connecting to the unix socket itself is the same.

It lives in process 1, whose loop calls `serve`: a process of its own could be killed by the program. Nothing here
blocks, and nothing is read that cannot be passed on, so each connection holds one piece each way at the most.
"""

from __future__ import annotations

import _socket
import select

_LOOPBACK = "127.0.0.1"
_MOST = 256  # connections at once; more wait in the kernel
_BACKLOG = 128
_PIECE_BYTES = 64 * 1024
_GONE = select.EPOLLHUP | select.EPOLLERR


class _End:
    """One side of a connection. `pending` is what it has still to take; `ended` says that it has nothing more to give,
    `gone` that it takes nothing either."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.number = socket.fileno()
        self.peer = self
        self.pending = memoryview(b"")
        self.ended = False
        self.gone = False
        self.awaited = 0  # the events that epoll waits for


class Relay:
    """`path` is the unix socket. `descriptor` can be read when `serve` has something to do. It ends with the
    process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        self._listener: _socket.socket | None = None
        self._full = False
        self._ends: dict[int, _End] = {}

    def listen(self, port: int) -> None:
        """Take connections from now on. Asked again, it has nothing to do. Raises OSError."""
        if self._listener is not None:
            return
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            listener.bind((_LOOPBACK, port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self._listener = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """See to what has happened. Returns at once."""
        for number, events in self._epoll.poll(0):
            end = self._ends.get(number)
            if end is not None:
                self._move(end, events)
            elif self._listener is not None and number == self._listener.fileno():
                self._accept(self._listener)

    def _accept(self, listener: _socket.socket) -> None:
        try:
            taken = _socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]
        except OSError:
            return  # it was taken back
        outside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            taken.setblocking(False)
            taken.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            outside.setblocking(False)
            outside.connect(self._path)
        except OSError:  # the way out is closed
            taken.close()
            outside.close()
            return
        first, second = _End(taken), _End(outside)
        first.peer, second.peer = second, first
        for end in (first, second):
            self._ends[end.number] = end
            self._await(end)
        self._hold_back(listener)

    def _hold_back(self, listener: _socket.socket) -> None:
        """Take no more connections than there may be, and more again when some have gone."""
        full = len(self._ends) >= 2 * _MOST
        if full and not self._full:
            self._epoll.unregister(listener.fileno())
        elif self._full and not full:
            self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._full = full

    def _move(self, end: _End, events: int) -> None:
        try:
            if end.pending and events & (select.EPOLLOUT | _GONE):
                self._write(end)
            if not end.ended and not end.peer.pending and events & (select.EPOLLIN | _GONE):
                self._read(end, hung_up=bool(events & _GONE))
        except BlockingIOError:
            pass
        except OSError:
            self._close(end)
            return
        if (end.gone and not end.peer.pending) or (end.peer.gone and not end.pending):
            self._close(end)
            return
        for each in (end, end.peer):
            self._await(each)

    def _read(self, end: _End, *, hung_up: bool) -> None:
        data = end.socket.recv(_PIECE_BYTES)
        if data:
            end.peer.pending = memoryview(data)
        else:
            end.ended, end.gone = True, hung_up
        self._write(end.peer)

    def _write(self, end: _End) -> None:
        """What can be written now; and then that nothing more will come, if so."""
        if end.pending:
            try:
                end.pending = end.pending[end.socket.send(end.pending) :]
            except BlockingIOError:
                return
        if end.peer.ended and not end.pending:
            end.socket.shutdown(_socket.SHUT_WR)

    def _await(self, end: _End) -> None:
        """Wait for what can be dealt with. A socket that nothing is wanted of is not watched at all: it would be
        reported for ever once the other side has hung up."""
        reading = not end.ended and not end.peer.pending
        wanted = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if end.pending else 0)
        if wanted == end.awaited:
            return
        if not end.awaited:
            self._epoll.register(end.number, wanted)
        elif wanted:
            self._epoll.modify(end.number, wanted)
        else:
            self._epoll.unregister(end.number)
        end.awaited = wanted

    def _close(self, end: _End) -> None:
        for each in (end, end.peer):
            if each.awaited:
                self._epoll.unregister(each.number)
            del self._ends[each.number]
            each.socket.close()
        if self._listener is not None:
            self._hold_back(self._listener)
