"""An engine in memory, at the seam where real ones stand. What its sandboxes run is a script, one step a line:

    out TEXT, err TEXT    write a line          raw HEX    write these bytes to stdout
    hang                  until killed          exit N     end with this code
    oom                   be killed for memory  die        end the whole sandbox
    say NAME, wait NAME   set, await an event of the engine

A script that runs out of lines ends with 0.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable

from isol8.engines.connection import Connection
from isol8.engines.sandbox import Chunk, Exit, Sandbox
from isol8.errors import Conflict, EngineFailure, NotFound
from isol8.model import Content, Limits, Mount, Network, Plan, SandboxSpec, Usage
from isol8.runtimes.base import Install

INSTALLED = {
    "bash": Install("/usr/bin/bash", "5.2", None),
    "python": Install("/usr/bin/python3", "3.11", None),
}


class ScriptedSandbox(Sandbox):
    """Plays what it is given."""

    def __init__(self, name: str, spec: SandboxSpec, engine: ScriptedEngine) -> None:
        super().__init__(name, spec, Connection())
        self.engine = engine
        self.files: dict[str, bytes] = {}
        self.plans: list[Plan] = []
        self.oom_kills = 0
        self._stop = asyncio.Event()

    def disconnect(self) -> None:
        super().disconnect()
        self._stop.set()

    def _check(self) -> None:
        if self.dead:
            raise EngineFailure("the sandbox ended")

    async def run(
        self, plan: Plan, *, stdin: Content, output_bytes: int, last: bool = False
    ) -> AsyncGenerator[Chunk | Exit, None]:
        self._check()
        self.plans.append(plan)
        self.engine.last.append((bytes(plan.source), last))
        self.engine.running += 1
        self._stop.clear()
        try:
            for step in plan.source.decode().splitlines():
                item = await self._step(*step.partition(" ")[::2])
                self._check()
                if item:
                    yield item
                if isinstance(item, Exit):
                    return
            yield Exit(0)
        finally:
            self.engine.running -= 1

    async def _step(self, verb: str, value: str) -> Chunk | Exit | None:
        if verb in ("out", "err"):
            return Chunk(f"std{verb}", f"{value}\n".encode())
        if verb == "raw":
            return Chunk("stdout", bytes.fromhex(value))
        if verb == "exit":
            return Exit(int(value))
        if verb == "oom":
            self.oom_kills += 1
            if self.engine.oom_takes_all:
                self.disconnect()
            return Exit(137)
        if verb == "die":
            self.disconnect()
        elif verb == "hang":
            await self._stop.wait()
            return Exit(137)
        elif verb == "say":
            self.engine.events[value].set()
        elif verb == "wait":
            await self.engine.events[value].wait()
        return None

    def prepare(self) -> None:
        self._check()
        self.engine.calls["prepare"] += 1

    async def kill(self) -> None:
        self._check()
        self.engine.calls["kill"] += 1
        if self.engine.deaf:
            raise EngineFailure("the sandbox does not answer")
        self._stop.set()

    async def put(self, path: str, content: Content) -> None:
        self._check()
        self.files[path] = bytes(content)

    async def get(self, path: str, max_bytes: int) -> Content:
        self._check()
        if path not in self.files:
            raise NotFound(f"File not found: {path}")
        return self.files[path]


class ScriptedEngine:
    """Implements `Engine`. `failures` is how many creations will fail; a closed `gate` holds them up."""

    def __init__(self) -> None:
        self.live: dict[str, ScriptedSandbox] = {}
        self.notes: dict[str, dict[str, object]] = {}
        self.left: dict[str, ScriptedSandbox] = {}  # by a server that has crashed
        self.events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.calls: Counter[str] = Counter()
        self.failures = 0
        self.making = 0
        self.most_making = 0
        self.running = 0
        self.last: list[tuple[bytes, bool]] = []  # of every program, whether it was said to be its sandbox's last
        self.closed = False
        self.keeps = True  # its sandboxes may outlive a crash
        self.deaf = False  # its sandboxes do not answer to `kill`
        self.oom_takes_all = False  # a kill for memory ends the whole sandbox
        self.gate = asyncio.Event()
        self.gate.set()

    def template(self, spec: SandboxSpec) -> tuple[str, str, bool]:
        network = Network.NONE if spec.network is Network.FILTERED else spec.network
        return (spec.runtime, network, spec.kept and self.keeps)

    async def start(self) -> None:
        self.calls["start"] += 1

    async def close(self) -> None:
        self.closed = True

    async def create(self, spec: SandboxSpec) -> ScriptedSandbox:
        self.calls["create"] += 1
        name = f"sandbox-{self.calls['create']:03}"
        self.making += 1
        self.most_making = max(self.most_making, self.making)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.making -= 1
        if self.failures:
            self.failures -= 1
            raise EngineFailure("no more room")
        kept = dataclasses.replace(spec, kept=spec.kept and self.keeps)
        sandbox = ScriptedSandbox(name, kept, self)
        self.live[sandbox.id] = sandbox
        return sandbox

    async def limit(self, sandbox: Sandbox, limits: Limits) -> None:
        self.calls["limit"] += 1
        if limits.memory_bytes < 4096:
            raise Conflict("more memory is in use")
        sandbox.spec = dataclasses.replace(sandbox.spec, limits=limits)

    async def mount(self, sandbox: Sandbox, mounts: tuple[Mount, ...]) -> None:
        self.calls["mount"] += 1
        sandbox.spec = dataclasses.replace(sandbox.spec, mounts=sandbox.spec.mounts + mounts)

    async def listen(self, sandbox: Sandbox, port: int) -> socket.socket:
        self.calls["listen"] += 1
        return socket.create_server(("127.0.0.1", 0))

    async def usage(self, sandbox: Sandbox) -> Usage:
        if sandbox.id not in self.live:
            raise EngineFailure("the sandbox is gone")
        return Usage(cpu_ms=7, peak_memory_bytes=4096, oom_kills=self.live[sandbox.id].oom_kills)

    async def keep(self, sandbox: Sandbox, note: dict[str, object]) -> None:
        self.calls["keep"] += 1
        self.notes[sandbox.id] = note

    async def kept(self) -> list[str]:
        return list(self.left)

    async def adopt(self, name: str) -> tuple[Sandbox, dict[str, object]]:
        if name not in self.left:
            raise EngineFailure("the container has ended")
        self.live[name] = sandbox = ScriptedSandbox(name, self.left[name].spec, self)
        del self.left[name]
        return sandbox, self.notes[name]

    async def destroy(self, sandbox: Sandbox) -> None:
        sandbox.disconnect()
        self.calls["destroy"] += sandbox.id in self.live
        self.live.pop(sandbox.id, None)


async def pause() -> None:
    """Let everything go on that waits for nothing but its turn, however slow the machine is."""
    for _ in range(200):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until `condition` gives something true; whatever it looks at has no event to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
