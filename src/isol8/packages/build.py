"""One build: a sandbox of its own, an installer in it, and the tree that it made on its way to the store.

All that comes out of the sandbox is a stream of bytes, which goes to the keeper as it is: nothing of it is looked at
here, and no more of it is held than a piece. The sandbox has limits of its own and is destroyed in any case.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from importlib import resources
from urllib.parse import urlsplit

from isol8.egress.client import Egress, OpenGate
from isol8.egress.policy import PROXY_PORT
from isol8.engines.base import Engine
from isol8.engines.sandbox import Exit, Sandbox
from isol8.errors import EngineFailure, SetupFailed
from isol8.model import Boot, Limits, Network, Plan, SandboxSpec
from isol8.packages.client import Delivery, HeldLayer, KeeperClient, RejectedLayer
from isol8.packages.reach import egress_for
from isol8.packages.recipe import CERTIFICATES, Order

# Read now: later this process may have no right to.
_INSIDE = resources.files("isol8.packages").joinpath("inside.py").read_bytes()
_SCRIPT = "/tmp/build.py"
_LAST_LINES = 8
_MAX_LINE_LENGTH = 500
_SHOWN_HOSTS = 5
_SPOKEN_BYTES = 256 * 1024  # of what an installer says, how much is passed on

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What one build may use. `layer_bytes` bounds the stream that it sends."""

    limits: Limits
    timeout_ms: int
    layer_bytes: int


def failed(reason: str) -> SetupFailed:
    """The error that a caller sees."""
    return SetupFailed(f"Package install failed: {reason}", code="install_failed")


class Build:
    """`run` it once. `say` is told each line that the installer prints."""

    def __init__(self, engine: Engine, egress: Egress, keeper: KeeperClient, allowed: BuildLimits, say: Say) -> None:
        self._engine = engine
        self._egress = egress
        self._keeper = keeper
        self._allowed = allowed
        self._say = say
        self._confidential: list[str] = []  # names and passwords in addresses of indexes
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._spoken = 0

    async def run(self, key: str, runtime: str, order: Order) -> HeldLayer:
        """Install, and put the layer into the store under `key`. Raises SetupFailed with the installer's last lines,
        EngineFailure. Cancelling it leaves nothing."""
        parts = [urlsplit(address).netloc.rpartition("@")[0] for address in order.addresses]
        self._confidential = [part for part in parts if part]
        spec = SandboxSpec(
            runtime=runtime, limits=self._allowed.limits, boot=Boot(), network=Network.FILTERED, mounts=order.mounts
        )
        sandbox = await self._engine.create(spec)
        gate: OpenGate | None = None
        layer: HeldLayer | None = None
        try:
            async with asyncio.timeout(self._allowed.timeout_ms / 1000):
                gate = await self._open_gate(sandbox, order)
                await self._put_files(sandbox, order, gate.bundle)
                layer = await self._deliver(sandbox, key, order, gate)
        except TimeoutError:
            raise failed(f"it took longer than {self._allowed.timeout_ms} ms") from None
        finally:
            if gate is not None:
                gate.abandon()
            await self._destroy(sandbox, layer)
        return layer

    async def _open_gate(self, sandbox: Sandbox, order: Order) -> OpenGate:
        policy = await egress_for(order, 2 * self._allowed.layer_bytes, self._allowed.timeout_ms)
        return await self._egress.open(await self._engine.listen(sandbox, PROXY_PORT), policy)

    async def _destroy(self, sandbox: Sandbox, layer: HeldLayer | None) -> None:
        try:
            await asyncio.shield(self._engine.destroy(sandbox))
        except BaseException:
            if layer:
                layer.close()
            raise

    async def _put_files(self, sandbox: Sandbox, order: Order, authority: bytes) -> None:
        """`authority` is the proxy's, at which TLS to hosts ends whose files are kept."""
        for path, content in order.files.items():
            await sandbox.put(path, content + b"\n" + authority if path == CERTIFICATES else content)

    async def _deliver(self, sandbox: Sandbox, key: str, order: Order, gate: OpenGate) -> HeldLayer:
        delivery = await self._keeper.add(key)
        try:
            code = await self._run(sandbox, order, delivery)
            if code:
                raise await self._failure(sandbox, gate, code)
            return await delivery.finish()
        except RejectedLayer as error:
            raise failed(str(error)) from None
        except BaseException:
            delivery.abort()
            raise

    async def _run(self, sandbox: Sandbox, order: Order, delivery: Delivery) -> int:
        plan = _plan(order)
        try:
            running = sandbox.run(plan, stdin=b"", output_bytes=2 * self._allowed.layer_bytes)
            async with aclosing(running) as items:
                async for item in items:
                    if isinstance(item, Exit):
                        return item.code
                    if item.stream == "stdout":
                        await delivery.send(item.data)
                    else:
                        self._hear(item.data)
        except EngineFailure:
            if (await self._engine.usage(sandbox)).oom_kills == 0:
                raise
        return 137

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        self._rest = self._rest[-_MAX_LINE_LENGTH:]
        for line in lines:
            text = "".join(letter for letter in line if letter.isprintable()).strip()[:_MAX_LINE_LENGTH]
            for part in self._confidential:
                text = text.replace(part, "***")
            if not text:
                continue
            self._lines.append(text)
            self._spoken += len(text)
            if self._spoken <= _SPOKEN_BYTES:
                self._say(text)

    async def _failure(self, sandbox: Sandbox, gate: OpenGate, code: int) -> SetupFailed:
        if self._rest:
            self._hear(b"\n")
        try:
            killed = (await self._engine.usage(sandbox)).oom_kills
        except EngineFailure:
            killed = 0
        said = "; ".join(line for line in self._lines if line != "Packing")
        blocked = {request.host for request in (await gate.close()).entries if not request.allowed}
        if blocked:
            said += f"; packages.hosts does not allow {', '.join(sorted(blocked)[:_SHOWN_HOSTS])}"
        if killed:
            return failed(f"the installer ran out of memory (packages.buildMemory); {said}")
        return failed(said or f"the installer ended with exit code {code}")


def _plan(order: Order) -> Plan:
    told = {
        "steps": order.steps,
        "env": dict(order.env),
        "directories": [order.tree, order.env["TMPDIR"]],
        "cwd": order.env["TMPDIR"],
        "tree": order.tree,
        "python": bool(order.names),
        "names": order.names,
    }
    return Plan(
        runtime="python",
        executable=order.python,
        argv=("python3", "-I", _SCRIPT, json.dumps(told)),
        path=_SCRIPT,
        source=_INSIDE,
        env={},
        workdir="/sandbox",
        warm=False,
    )
