"""The way out of one sandbox, for as long as one execution takes: what it may still do, and what it has done."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from isol8.egress.hosts import Address
from isol8.egress.policy import Judge
from isol8.egress.resolver import Resolver, is_own
from isol8.egress.streams import PlainStream
from isol8.model import BoundSecret, EgressPolicy, NetworkRequest

_LOG = logging.getLogger("isol8.egress")
_MAX_NOTES = 1000
_LOOKUPS = 4  # at once, for one sandbox
_MAX_SHOWN = 512
_PAUSE_S = 0.2


class Blocked(Exception):
    """The policy does not allow it; the message is the rule."""


class Overspent(OSError):
    """The sandbox has moved all the bytes that it may."""


class Note:
    """One request, while it happens. `close` puts it into the log."""

    def __init__(self, method: str, host: str, port: int, path: str | None) -> None:
        self.rule = ""
        self.bytes = 0
        self.closed = False
        self._what = (method[:32], host, port, path[:_MAX_SHOWN] if path else path)
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()

    def done(self) -> NetworkRequest:
        """What there is to say of it."""
        method, host, port, path = self._what
        return NetworkRequest(
            started_at=self._started_at,
            method=method,
            host=host,
            port=port,
            path=path,
            allowed=not self.rule,
            rule=self.rule,
            bytes=self.bytes,
            duration_ms=round((time.perf_counter() - self._clock) * 1000),
        )


class Gate:
    """Takes connections from `listener`, each to `serve`, until it is closed; owns the listener. `notes` is the log, of
    which `dropped` entries went over its bound."""

    def __init__(
        self,
        listener: socket.socket,
        policy: EgressPolicy,
        resolver: Resolver,
        serve: Callable[[Gate, PlainStream], Awaitable[None]],
    ) -> None:
        self.notes: list[NetworkRequest] = []
        self.dropped = 0
        self._listener = listener
        self._policy = policy
        self._judge = Judge(policy)
        self._resolver = resolver
        self._serve = serve
        self._slots = asyncio.Semaphore(policy.max_connections)
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._left_bytes = policy.max_bytes
        self._open: set[Note] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self._accept())
        self._end = asyncio.get_running_loop().call_later(policy.max_ms / 1000, self.shut)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with self._listener:
            self._listener.setblocking(False)
            while True:
                await self._slots.acquire()
                connection = await self._take()
                task = loop.create_task(self._converse(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                # If it ends before it has begun, nobody else does.
                task.add_done_callback(partial(_close, connection))

    async def _take(self) -> socket.socket:
        """The next connection. It is not the loop that accepts it: one that comes in the moment in which this is
        cancelled would be lost, and stay open."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                await self._until_somebody_comes()
            except OSError as error:  # out of descriptors or memory, which will not be better at once
                _LOG.warning("a connection could not be taken: %s", error)
                await asyncio.sleep(_PAUSE_S)
            else:
                connection.setblocking(False)
                return connection

    async def _until_somebody_comes(self) -> None:
        loop = asyncio.get_running_loop()
        come = asyncio.Event()
        loop.add_reader(self._listener, come.set)
        try:
            await come.wait()
        finally:
            loop.remove_reader(self._listener)

    async def _converse(self, connection: socket.socket) -> None:
        """Whatever happens in one conversation ends there. Errors of the network are everyday; others are ours."""
        try:
            open_ = asyncio.open_unix_connection if connection.family == socket.AF_UNIX else asyncio.open_connection
            reader, writer = await open_(sock=connection)
            try:
                await self._serve(self, PlainStream(reader, writer))
            except* (OSError, TimeoutError):
                pass
            except* Exception:  # noqa: BLE001 - a bug in one conversation must not end the others
                _LOG.exception("a conversation failed")
            finally:
                writer.close()
        finally:
            self._slots.release()

    def shut(self) -> None:
        """Take no more connections, and begin to end those that there are."""
        self._end.cancel()
        self._running.cancel()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Returns when every connection is gone, and all that was noted is in `notes`. Idempotent."""
        self.shut()
        await asyncio.gather(self._running, *self._tasks, return_exceptions=True)
        for note in list(self._open):
            self.close_note(note)

    def note(self, method: str, host: str, port: int, path: str | None) -> Note:
        """A request has come. The caller closes the note."""
        note = Note(method, host, port, path)
        self._open.add(note)
        return note

    def close_note(self, note: Note) -> None:
        """The request is over. Idempotent."""
        if note not in self._open:
            return
        self._open.discard(note)
        if not self._policy.log:
            return
        if len(self.notes) < _MAX_NOTES:
            self.notes.append(note.done())
        else:
            self.dropped += 1

    def secrets(self, host: str, port: int) -> tuple[BoundSecret, ...]:
        """Those that are bound to this host."""
        return tuple(secret for secret in self._policy.secrets if (host, port) in secret.hosts)

    def keeps(self, origin: str) -> bool:
        """Whether files of an origin are kept for later."""
        return origin in self._policy.downloads

    def spend(self, size: int) -> None:
        """Count bytes. Raises Overspent."""
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise Overspent("the sandbox has moved all the bytes that it may")

    def check(self, host: str, port: int) -> None:
        """Raises Blocked unless the policy allows the host."""
        if self._left_bytes <= 0:
            raise Blocked(f"the execution has moved its {self._policy.max_bytes} bytes (network.maxBytes)")
        objection = self._judge.objection(host, port)
        if objection:
            raise Blocked(objection)

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection to an address of the host that the policy allows. Raises Blocked, Unreachable."""
        self.check(host, port)
        async with self._lookups:
            found = await self._resolver.addresses(host, port)
        usable = [address for address in found if self._admits(address)]
        if not usable:
            raise Blocked("the host has no public address (network.allowedRanges)")
        return await self._resolver.connect(usable, port)

    def _admits(self, address: Address) -> bool:
        return self._judge.admits(address, own=is_own(address))


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()
