"""The supervisor: the one privileged process. It owns zygotes, cgroups and sandboxes.

It listens on a unix socket for the API process (`protocol.py`), gives it the stream of each sandbox it makes, and
destroys every sandbox of a connection that ends. Sandboxes are its own children (`zygote.py`: CLONE_PARENT): it has a
pidfd for each, reaps each, and removes what it held. When the supervisor itself is killed, the kernel kills the
zygotes and sandboxes (parent-death signals), and the launcher sweeps the cgroups (`isol8/launcher.py`).

At every start it finds out which isolation layers hold (`examination.py`), and refuses to go on with less than the
policy asks for.

Started as `python -m isol8.engines.native.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

from isol8.engines.base import Need
from isol8.engines.native import protocol
from isol8.engines.native.directories import Directories
from isol8.engines.native.examination import prepare
from isol8.engines.native.layers import REFUSED, Refused, missing, refusal, sentence
from isol8.engines.native.sandboxes import Sandboxes
from isol8.engines.native.unprivileged import Standing, take_standing
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import privileges
from isol8.kernel.cgroups import Hierarchy

_LOG = logging.getLogger("isol8.supervisor")
_LEVELS = {Need.STRICT: logging.WARNING, Need.EXTRA: logging.INFO}


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the supervisor. `client_uid` is the API process's user; `owner` the launcher's pid;
    `strict` whether every isolation layer must hold; `hierarchy` the fields of a Hierarchy: the cgroups to use;
    `layers` and `directories` see Directories."""

    owner: int
    client_uid: int
    strict: bool
    hierarchy: dict[str, Any]
    python: str
    prefixes: dict[str, str]
    environment: dict[str, str]
    layers: str = ""
    directories: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """Serves one API process at a time on `listener`."""

    def __init__(self, listener: socket.socket, options: Options, standing: Standing) -> None:
        self._listener = listener
        self._options = options
        self._standing = standing
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM; then destroy everything. Raises EngineFailure, Refused."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self._sandboxes = await self._open()
        self._listener.setblocking(False)
        accepting = asyncio.create_task(self._accept())
        await stop.wait()
        accepting.cancel()
        await self._sandboxes.close()

    async def _open(self) -> Sandboxes:
        options = self._options
        sandboxes, found = await prepare(
            lambda means: Sandboxes(
                options.owner,
                options.python,
                options.prefixes,
                options.environment,
                means,
                Directories(options.layers, options.directories),
            ),
            options.owner,
            Hierarchy(**options.hierarchy),
            self._standing,
        )
        lacking = missing(found, {Need.EXTRA} if options.strict else {Need.STRICT, Need.EXTRA})
        if sandboxes is None or lacking:
            if sandboxes:
                await sandboxes.close()
            raise Refused(refusal(lacking, options.strict))
        for layer in found:
            if not layer.enforced:
                _LOG.log(_LEVELS[layer.need], "%s", sentence(layer))
        return sandboxes

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            uid = struct.unpack("3i", credentials)[1]
            if uid not in (self._options.client_uid, os.getuid()):
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
    """One connection of an API process. Its sandboxes end with it."""

    def __init__(self, connection: socket.socket, sandboxes: Sandboxes, spawn: Any) -> None:
        self._connection = connection
        self._sandboxes = sandboxes
        self._spawn = spawn
        self._made: set[str] = set()
        self._closed = asyncio.Event()
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Answer requests until the connection ends; then destroy what it made."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection, self._readable)
        await self._closed.wait()
        loop.remove_reader(self._connection)
        self._connection.close()
        await asyncio.gather(*(self._sandboxes.destroy(name) for name in self._made))

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
            return {}, []
        if operation == "create":
            self._made.add(name)
            group, stream = await self._sandboxes.create(name, message)
            if self._closed.is_set():
                await self._sandboxes.destroy(name)
            return {"version": group.version, "groups": group.paths}, [stream]
        if operation == "limit":
            self._sandboxes.limit(name, message["limits"])
        elif operation == "mount":
            self._sandboxes.mount(name, message["mounts"])
        elif operation == "listen":
            return {}, [self._sandboxes.listen(name, message["port"])]
        elif operation == "destroy":
            await self._sandboxes.destroy(name)
            self._made.discard(name)
        else:
            raise EngineFailure(f"unknown operation {operation}")
        return {}, []


def main() -> None:
    """Entry point of the supervisor process."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    options = Options(**json.loads(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # The launcher blocks what it waits for. An interrupt from a terminal comes to all three: the launcher sees to it.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    standing = take_standing()
    # However the launcher dies, this process gets to clean up.
    privileges.die_with_parent(signal.SIGTERM)
    if os.getppid() != options.owner:
        return
    try:
        asyncio.run(Supervisor(listener, options, standing).run())
    except EngineFailure as error:
        sys.stderr.write(f"isol8: {error.message}\n")
        sys.stderr.flush()
        sys.exit(REFUSED if isinstance(error, Refused) else 1)


if __name__ == "__main__":
    main()
