"""An engine as the API process sees it: requests to its supervisor, and streams to sandboxes.

The API process faces the network. Whatever making a sandbox takes, be it root or the Docker socket, the supervisor has,
and the API process does not (`supervisor.py`, `protocol.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import socket
from collections.abc import Hashable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from isol8.engines import protocol
from isol8.engines.connection import Connection
from isol8.engines.requests import Requests
from isol8.engines.sandbox import Sandbox
from isol8.errors import Conflict, EngineFailure
from isol8.kernel.cgroups import Group
from isol8.model import Boot, Limits, Mount, Network, SandboxSpec, Usage
from isol8.runner.resumption import TOKEN_BYTES, resume, resumed
from isol8.tasks import Tasks

# For a machine that is slow, or busy: nothing waits this long where all is well.
_READY_TIMEOUT_S = 60
_RESUMPTIONS = 2
# What callers call limits.
_CALLED = {
    "memory_bytes": "memoryLimit",
    "cpus": "cpuLimit",
    "pids": "pidsLimit",
    "sandbox_bytes": "sandboxSize",
    "tmp_bytes": "tmpSize",
}


class SupervisedEngine:
    """Implements `Engine`. `address` is the supervisor's abstract unix socket; it need not be up at any one time.

    `uid` is the supervisor's user: nobody else may pose as it.
    """

    def __init__(self, address: str, uid: int) -> None:
        self._requests = Requests(address, uid)
        self._fixed: tuple[str, ...] = ()  # the limits that a live sandbox keeps
        self._keeps = False
        self._mountable = True
        self._groups: dict[str, Group | None] = {}
        self._unwanted = Tasks()

    def template(self, spec: SandboxSpec) -> Hashable:
        """See Engine."""
        kept = (getattr(spec.limits, name) for name in self._fixed)
        # A filtered network is a sandbox's own loopback as well, with a socket on it for each execution.
        network = Network.NONE if spec.network is Network.FILTERED else spec.network
        mounts = () if self._mountable else spec.mounts
        return (spec.runtime, network, spec.image, mounts, spec.kept and self._keeps, *kept)

    async def start(self) -> None:
        """Connect, and wait until sandboxes can be made. Raises EngineFailure."""
        message, _ = await self._requests.ask("ready", "")
        self._fixed, self._keeps = tuple(message["fixed"]), message["keeps"]
        self._mountable = message["mountable"]

    async def close(self) -> None:
        """Let go of the supervisor, which then destroys what this process made."""
        self._requests.close()
        await self._unwanted.finish()

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """See Engine. It is made to the end in any case, and destroyed when nobody waits for it any more: whoever is
        cancelled knows nothing of it."""
        making = asyncio.create_task(self._create(spec))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._unwanted.start(self._destroy_made(making))
            raise

    async def _destroy_made(self, making: asyncio.Task[Sandbox]) -> None:
        await self.destroy(await making)

    async def _create(self, spec: SandboxSpec) -> Sandbox:
        name = secrets.token_hex(8)
        if spec.kept and not self._keeps:
            spec = dataclasses.replace(spec, kept=False)
        message, descriptors = await self._requests.ask("create", name, **_described(spec), kept=spec.kept)
        return await self._connect(name, spec, message, descriptors[0])

    async def keep(self, sandbox: Sandbox, note: dict[str, object]) -> None:
        """See Engine."""
        if sandbox.spec.kept:
            await self._requests.ask("keep", sandbox.id, note=note)

    async def kept(self) -> list[str]:
        """See Engine."""
        if not self._keeps:
            return []
        message, _ = await self._requests.ask("kept", "")
        return list(message["kept"])

    async def adopt(self, name: str) -> tuple[Sandbox, dict[str, object]]:
        """See Engine."""
        message, descriptors = await self._requests.ask("adopt", name)
        token = bytes.fromhex(message["token"])
        return await self._connect(name, _spec(message["request"]), message, descriptors[0], token), message["note"]

    async def _connect(
        self, name: str, spec: SandboxSpec, message: protocol.Message, descriptor: int, token: bytes = b""
    ) -> Sandbox:
        """The sandbox behind a stream, when it is ready; with `token`, one that had another server before."""
        # Named, else they would be asked for; the loop makes it one that does not block.
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
        self._groups[name] = Group(message["version"], message["groups"]) if "groups" in message else None
        connection = Connection()
        if token:
            connection.expect(secrets.token_bytes(TOKEN_BYTES))  # never said: nothing counts before it has been asked
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: connection, sock=stream)
        sandbox = Sandbox(name, spec, connection)
        late = loop.call_later(_READY_TIMEOUT_S, connection.give_up)
        try:
            # What the server before had sent may overtake the first time, on the way that it was given to.
            for _ in range(_RESUMPTIONS if token else 0):
                number = secrets.token_bytes(TOKEN_BYTES)
                connection.expect(resumed(number))
                connection.send(resume(token, number))
                await connection.ready
            await connection.ready
        except BaseException:
            await asyncio.shield(self.destroy(sandbox))
            raise
        finally:
            late.cancel()
        return sandbox

    async def limit(self, sandbox: Sandbox, limits: Limits) -> None:
        """See Engine."""
        before = sandbox.spec.limits
        kept = [name for name in self._fixed if getattr(limits, name) != getattr(before, name)]
        if kept:
            names = ", ".join(_CALLED[name] for name in kept)
            raise Conflict(f"This sandbox's limits cannot change in this way: it keeps its {names}")
        await self._requests.ask("limit", sandbox.id, limits=dataclasses.asdict(limits))
        sandbox.spec = dataclasses.replace(sandbox.spec, limits=limits)

    async def mount(self, sandbox: Sandbox, mounts: tuple[Mount, ...]) -> None:
        """See Engine."""
        if not self._mountable:
            raise Conflict("This sandbox's packages cannot change: it has those that it was made with")
        await self._requests.ask("mount", sandbox.id, mounts=[[mount.name, mount.target] for mount in mounts])
        sandbox.spec = dataclasses.replace(sandbox.spec, mounts=sandbox.spec.mounts + mounts)

    async def listen(self, sandbox: Sandbox, port: int) -> socket.socket:
        """See Engine."""
        _, descriptors = await self._requests.ask("listen", sandbox.id, port=port)
        listener = socket.socket(fileno=descriptors[0])
        if listener.family == socket.AF_UNIX:  # it reaches into the sandbox, where the runner has to lead to it
            try:
                await sandbox.listen(port)
            except BaseException:
                listener.close()
                raise
        return listener

    async def usage(self, sandbox: Sandbox) -> Usage:
        """See Engine. The files of a cgroup are everybody's to read, so this costs no message. When the engine has
        taken one away with the sandbox, its supervisor may know what it last had."""
        if sandbox.id not in self._groups:
            raise EngineFailure("the sandbox is gone")
        if group := self._groups[sandbox.id]:
            with suppress(OSError):
                return group.usage()
        message, _ = await self._requests.ask("usage", sandbox.id)
        return Usage(**message["usage"])

    async def destroy(self, sandbox: Sandbox) -> None:
        """See Engine."""
        sandbox.disconnect()
        known = sandbox.id in self._groups
        self._groups.pop(sandbox.id, None)
        if not known or not self._requests.connected:
            return  # destroyed before, or gone with the connection
        await self._requests.ask("destroy", sandbox.id)


@lru_cache(maxsize=64)
def _described(spec: SandboxSpec) -> dict[str, Any]:
    """What `create` says of a sandbox. Every pool asks for the same one again and again."""
    return {
        "runtime": spec.runtime,
        "limits": dataclasses.asdict(spec.limits),
        "network": spec.network,
        "image": spec.image,
        "boot": dataclasses.asdict(spec.boot),
        "mounts": [[mount.name, mount.target] for mount in spec.mounts],
    }


def _spec(request: protocol.Message) -> SandboxSpec:
    """What a sandbox that is adopted was made from."""
    boot = request["boot"]
    lists = {name: tuple(boot[name]) for name in ("modules", "argv", "stamps")}
    return SandboxSpec(
        runtime=request["runtime"],
        limits=Limits(**request["limits"]),
        boot=Boot(**boot | lists),
        network=Network(request["network"]),
        image=request["image"],
        mounts=tuple(Mount(name=name, target=target) for name, target in request["mounts"]),
        kept=True,
    )
