"""A real supervisor, and an engine connected to it, without the HTTP server."""

import asyncio
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from isol8.engines.sandbox import Exit, Sandbox
from isol8.engines.supervised import SupervisedEngine
from isol8.kernel import cgroups
from isol8.model import Boot, Limits, Network, Plan, SandboxSpec
from tests.support import machine
from tests.support.plans import python_plan

LIMITS = Limits(memory_bytes=256 << 20, cpus=1.0, pids=64, sandbox_bytes=64 << 20, tmp_bytes=32 << 20)
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/sandbox", "LANG": "C.UTF-8"}

# Who was killed takes a moment to end, and to be reaped: this says so when there is nobody but itself.
ALONE = """
import os, time
for _ in range(12000):
    if sum(name.isdigit() for name in os.listdir("/proc")) == 1:
        print("alone")
        break
    time.sleep(0.01)
"""


@dataclass
class Lab:
    """An engine, and the supervisor it speaks to."""

    engine: SupervisedEngine
    supervisor: subprocess.Popen[bytes]

    async def create(self, limits: Limits = LIMITS, network: Network = Network.NONE) -> Sandbox:
        """A sandbox with a Python worker. `close` of the engine destroys it at the latest."""
        return await self.engine.create(
            SandboxSpec(runtime="python", limits=limits, boot=Boot(forked=True), network=network)
        )

    def processes(self, sandbox: Sandbox) -> dict[int, int]:
        """Those of a sandbox, by their numbers in it; number 1 is its runner. Pids tell nothing of who came first."""
        group = self.engine._groups[sandbox.id]
        assert group
        numbers = {pid: machine.status(pid).get("NSpid") for pid in machine.members(group.directories[0])}
        return {int(number.split()[-1]): pid for pid, number in numbers.items() if number}


async def python(sandbox: Sandbox, source: str, output_bytes: int = 1 << 20, *, last: bool = False) -> tuple[int, str]:
    """Run a program; its exit code, and its stdout and stderr one after the other."""
    return await output(sandbox, python_plan(source, "/usr/bin/python3"), output_bytes, last=last)


async def output(sandbox: Sandbox, plan: Plan, output_bytes: int = 1 << 20, *, last: bool = False) -> tuple[int, str]:
    """The same of a program that is laid out."""
    said = {"stdout": b"", "stderr": b""}
    async for event in sandbox.run(plan, stdin=b"", output_bytes=output_bytes, last=last):
        if isinstance(event, Exit):
            return event.code, (said["stdout"] + said["stderr"]).decode()
        said[event.stream] += event.data
    raise AssertionError("a run ends with Exit")


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with laboratory({}) as lab:
        yield lab


@asynccontextmanager
async def laboratory(prefixes: dict[str, str]) -> AsyncIterator[Lab]:
    """A lab whose sandboxes see these runtimes."""
    if os.geteuid() != 0:
        pytest.skip("the native engine needs root")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"\0isol8-test-{os.getpid()}-{id(listener)}"
    listener.bind(address)
    listener.listen()
    options = {
        "owner": os.getpid(),
        "client_uid": os.getuid(),
        "strict": True,
        "hierarchy": dataclasses.asdict(cgroups.find()),
        "python": "/usr/bin/python3",
        "prefixes": prefixes,
        "environment": ENVIRONMENT,
    }
    command = [sys.executable, "-m", "isol8.engines.native.supervisor", str(listener.fileno()), json.dumps(options)]
    supervisor = await asyncio.to_thread(subprocess.Popen, command, pass_fds=[listener.fileno()])
    engine = SupervisedEngine(address, os.getuid())
    await engine.start()
    yield Lab(engine, supervisor)
    children = machine.descendants(supervisor.pid)
    await engine.close()
    supervisor.terminate()
    await asyncio.to_thread(supervisor.wait, 120)
    listener.close()
    assert not machine.alive(children)
    assert not machine.cgroups(os.getpid())
