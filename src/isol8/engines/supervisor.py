"""What the supervisors of all engines have in common: requests from the API process, answered in turn.

A supervisor is the one privileged process. It listens on a unix socket for the API process (`protocol.py`), gives it
the stream of each sandbox it makes, and destroys every sandbox of a connection that ends. What a sandbox is, each
engine's own `Sandboxes` know. When the supervisor itself is killed, the launcher clears up after it
(`isol8/launcher.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from isol8.engines import protocol
from isol8.engines.base import Layer, Need
from isol8.engines.layers import missing, refusal, sentence
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import peers, privileges
from isol8.kernel.cgroups import Group
from isol8.model import Usage

# sysexits.h: EX_CONFIG. With this the supervisor ends when it cannot start: at the first start of a server trying again
# would not help, however long it took on a busy machine to find out.
REFUSED = 78
# The limits that are sizes of file systems.
SIZES = ("sandbox_bytes", "tmp_bytes")

_LEVELS = {Need.STRICT: logging.WARNING, Need.EXTRA: logging.INFO}
_LOG = logging.getLogger("isol8.supervisor")


class Sandboxes(Protocol):
    """An engine's sandboxes, by name. Every method may be called while others are under way."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of the limits that a live sandbox keeps."""

    @property
    def mountable(self) -> bool:
        """Whether `mount` can work: else what a sandbox is to see it must have from the start."""

    async def create(self, name: str, request: dict[str, Any]) -> tuple[Group | None, int]:
        """Make one. Its cgroup, if this machine has it, and its stream (the caller's to close). Raises
        EngineFailure."""

    async def limit(self, name: str, values: dict[str, Any]) -> None:
        """Put other limits on it. Raises EngineFailure, Conflict."""

    def mount(self, name: str, wanted: list[list[str]]) -> None:
        """Show it further directories: (name, target) pairs. Raises EngineFailure, Conflict."""

    def listen(self, name: str, port: int) -> int:
        """A listening socket on its loopback, the caller's to close. Raises EngineFailure, Conflict."""

    async def usage(self, name: str) -> Usage:
        """What it has consumed. Asked only when its cgroup is not there to read, or no longer. Raises EngineFailure."""

    async def destroy(self, name: str) -> None:
        """End it; returns when nothing of it is left. One that does not exist is fine."""

    @property
    def keeping(self) -> Keeping | None:
        """What makes some of them outlive a crash of the server, where the engine can."""

    async def close(self) -> None:
        """Destroy them all, but those that are spared."""


class Keeping(Protocol):
    """Sandboxes that another API process, or another server, finds again."""

    async def keep(self, name: str, note: dict[str, Any]) -> None:
        """Note down one that was made to be kept, for whoever adopts it. A later note takes the place of an earlier
        one. Raises EngineFailure."""

    async def kept(self) -> list[str]:
        """Those that can be adopted."""

    async def adopt(self, name: str) -> tuple[protocol.Message, Group | None, int]:
        """What is known of one (protocol.py), its cgroup and its stream, as `create` gives them. Raises EngineFailure,
        and the sandbox is removed then."""

    async def leave(self, name: str) -> bool:
        """Whoever made it is gone: keep it for the next, if it was noted down. Whether it was."""

    async def spare(self) -> None:
        """The server has crashed: leave all, and let `close` destroy none of them."""


class Startable(Sandboxes, Protocol):
    """Sandboxes that are started once."""

    async def start(self) -> None:
        """Make ready. Raises EngineFailure."""


Made = TypeVar("Made", bound=Startable)


class Supervisor:
    """Serves one API process at a time on `listener`: `client_uid` is its user. `owner` is the process that stops it,
    and `open_` makes the sandboxes ready."""

    def __init__(
        self, listener: socket.socket, owner: int, client_uid: int, open_: Callable[[], Awaitable[Sandboxes]]
    ) -> None:
        self._listener = listener
        self._owner = owner
        self._client_uid = client_uid
        self._open = open_
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM; then destroy everything, but what is kept if it was not the owner who said so. Raises
        EngineFailure."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self._sandboxes = await self._open()
        self._listener.setblocking(False)
        accepting = asyncio.create_task(self._accept())
        await stop.wait()
        accepting.cancel()
        if self._sandboxes.keeping and os.getppid() != self._owner:
            await self._sandboxes.keeping.spare()
        await self._sandboxes.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            uid = peers.user_of(connection)
            if uid not in (self._client_uid, os.getuid()):
                _LOG.warning("a process of user %d was turned away", uid)
                connection.close()
                continue
            connection.setblocking(False)
            self._spawn(Client(connection, self._sandboxes, self._spawn).serve())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Client:
    """One connection of an API process. Its sandboxes end with it, or wait for the next one."""

    def __init__(self, connection: socket.socket, sandboxes: Sandboxes, spawn: Any) -> None:
        self._connection = connection
        self._sandboxes = sandboxes
        self._spawn = spawn
        self._made: set[str] = set()
        self._closed = asyncio.Event()
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Answer requests until the connection ends; then destroy what it made and is not kept."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection, self._readable)
        await self._closed.wait()
        loop.remove_reader(self._connection)
        self._connection.close()
        await asyncio.gather(*(self._part(name) for name in self._made))

    async def _part(self, name: str) -> None:
        keeping = self._sandboxes.keeping
        if keeping and await keeping.leave(name):
            return
        try:
            await self._sandboxes.destroy(name)
        except EngineFailure as error:  # there is nobody to be told any more
            _LOG.warning("%s", error.message)

    def _readable(self) -> None:
        try:
            received = protocol.receive(self._connection)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            received = None
        if received is None:
            self._closed.set()
            return
        message, descriptors = received
        for descriptor in descriptors:  # none are expected from this side
            os.close(descriptor)
        self._spawn(self._answer(message))

    async def _answer(self, message: protocol.Message) -> None:
        answer: protocol.Message
        descriptors: list[int] = []
        try:
            answer, descriptors = await self._carry_out(message)
        except (EngineFailure, Conflict) as error:
            answer = {"error": error.message, "conflict": isinstance(error, Conflict)}
        except Exception as error:  # noqa: BLE001 - the client must have its answer, and the log the traceback
            _LOG.exception("%s failed", message.get("op"))
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            if not self._closed.is_set():
                await self._send({"id": message.get("id"), **answer}, descriptors)
        except OSError:
            self._closed.set()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _send(self, message: protocol.Message, descriptors: list[int]) -> None:
        loop = asyncio.get_running_loop()
        async with self._sending:
            while True:
                try:
                    return protocol.send(self._connection, message, descriptors)
                except BlockingIOError:
                    writable = loop.create_future()
                    loop.add_writer(self._connection, writable.set_result, None)
                    try:
                        await writable
                    finally:
                        loop.remove_writer(self._connection)

    async def _carry_out(self, message: protocol.Message) -> tuple[protocol.Message, list[int]]:
        operation, name = message["op"], message["sandbox"]
        if operation == "ready":
            keeps = self._sandboxes.keeping is not None
            return {"fixed": self._sandboxes.fixed, "mountable": self._sandboxes.mountable, "keeps": keeps}, []
        if operation == "create":
            self._made.add(name)
            group, stream = await self._sandboxes.create(name, message)
            if self._closed.is_set():
                await self._part(name)
            return {"version": group.version, "groups": group.paths} if group else {}, [stream]
        if operation == "usage":
            return {"usage": dataclasses.asdict(await self._sandboxes.usage(name))}, []
        if operation == "limit":
            await self._sandboxes.limit(name, message["limits"])
        elif operation == "mount":
            self._sandboxes.mount(name, message["mounts"])
        elif operation == "listen":
            return {}, [self._sandboxes.listen(name, message["port"])]
        elif operation == "destroy":
            await self._sandboxes.destroy(name)
            self._made.discard(name)
        elif self._sandboxes.keeping:
            return await self._carry_over(self._sandboxes.keeping, operation, message)
        else:
            raise EngineFailure(f"unknown operation {operation}")
        return {}, []

    async def _carry_over(
        self, keeping: Keeping, operation: str, message: protocol.Message
    ) -> tuple[protocol.Message, list[int]]:
        """What there is to do about sandboxes that are kept."""
        name = message["sandbox"]
        if operation == "kept":
            return {"kept": await keeping.kept()}, []
        if operation == "keep":
            await keeping.keep(name, message["note"])
            return {}, []
        if operation != "adopt":
            raise EngineFailure(f"unknown operation {operation}")
        known, group, stream = await keeping.adopt(name)
        self._made.add(name)
        if self._closed.is_set():
            await self._part(name)
        return known | ({"version": group.version, "groups": group.paths} if group else {}), [stream]


def insist(found: list[Layer], *, strict: bool) -> None:
    """Log the layers that are missing and need not hold. Raises EngineFailure when one is missing that must."""
    lacking = missing(found, {Need.EXTRA} if strict else {Need.STRICT, Need.EXTRA})
    if lacking:
        raise EngineFailure(refusal(lacking, strict))
    for layer in found:
        if not layer.enforced:
            _LOG.log(_LEVELS[layer.need], "%s", sentence(layer))


async def opened(sandboxes: Made, examine: Callable[[Made], Awaitable[list[Layer]]], *, strict: bool) -> Made:
    """The sandboxes, started, of an engine whose layers are looked at in one of them. Raises EngineFailure."""
    await sandboxes.start()
    try:
        insist(await examine(sandboxes), strict=strict)
    except BaseException:
        await sandboxes.close()
        raise
    return sandboxes


def supervise(listener: socket.socket, owner: int, client_uid: int, open_: Callable[[], Awaitable[Sandboxes]]) -> None:
    """Be the supervisor process until SIGTERM. `owner` is the launcher's pid. Leaves by SystemExit when it cannot
    start."""
    # However the launcher dies, this process gets to clean up.
    privileges.die_with_parent(signal.SIGTERM)
    if os.getppid() != owner:
        return
    try:
        asyncio.run(Supervisor(listener, owner, client_uid, open_).run())
    except EngineFailure as error:
        sys.stderr.write(f"isol8: {error.message}\n")
        sys.stderr.flush()
        sys.exit(REFUSED)
