"""A real supervisor of the Docker engine, and an engine connected to it, without the HTTP server."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from isol8.engines.sandbox import Exit, Sandbox
from isol8.engines.supervised import SupervisedEngine
from isol8.model import Boot, Limits, SandboxSpec
from tests.support import daemon, machine
from tests.support.plans import python_plan

LIMITS = Limits(memory_bytes=256 << 20, cpus=1.0, pids=64, sandbox_bytes=64 << 20, tmp_bytes=32 << 20)
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/sandbox", "LANG": "C.UTF-8"}
IMAGE = "isol8/sandbox:latest"


@dataclass
class Lab:
    """An engine, and the supervisor it speaks to, at `address`."""

    engine: SupervisedEngine
    supervisor: subprocess.Popen[bytes]
    address: str

    async def create(self, limits: Limits = LIMITS, image: str = "", *, kept: bool = False) -> Sandbox:
        """A sandbox. `close` of the engine destroys it at the latest, unless it is kept."""
        spec = SandboxSpec(runtime="python", limits=limits, boot=Boot(), image=image, kept=kept)
        return await self.engine.create(spec)

    async def lose_client(self) -> None:
        """The API process is gone, and another one has come."""
        await self.engine.close()
        self.engine = SupervisedEngine(self.address, os.getuid())
        await self.engine.start()


async def python(sandbox: Sandbox, source: str) -> tuple[int, str]:
    """Run a program; its exit code, and its stdout and stderr one after the other."""
    plan = python_plan(source, "python3")
    output = {"stdout": b"", "stderr": b""}
    async for event in sandbox.run(plan, stdin=b"", output_bytes=1 << 20):
        if isinstance(event, Exit):
            return event.code, (output["stdout"] + output["stderr"]).decode()
        output[event.stream] += event.data
    raise AssertionError("a run ends with Exit")


def start_supervisor(listener: socket.socket, home: str, patience_s: float = 0.0) -> subprocess.Popen[bytes]:
    """The supervisor process, which notes down in `home` what is to be kept."""
    options = {
        "owner": os.getpid(),
        "client_uid": os.getuid(),
        "host": daemon.address(),
        "context": "",
        "runtime": "",
        "image": IMAGE,
        "environment": ENVIRONMENT,
        "strict": True,
        "home": home,
        "patience_s": patience_s,
    }
    command = [sys.executable, "-m", "isol8.engines.docker.supervisor", str(listener.fileno()), json.dumps(options)]
    return subprocess.Popen(command, pass_fds=[listener.fileno()])


@pytest.fixture
def patience_s() -> float:
    """How long a container that is kept waits for somebody; 0 is for ever."""
    return 0.0


@pytest.fixture
async def lab(tmp_path: Path, patience_s: float) -> AsyncIterator[Lab]:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"\0isol8-test-{uuid.uuid4().hex}"
    listener.bind(address)
    listener.listen()
    supervisor = await asyncio.to_thread(start_supervisor, listener, str(tmp_path / "home"), patience_s)
    engine = SupervisedEngine(address, os.getuid())
    await engine.start()
    made = Lab(engine, supervisor, address)
    yield made
    await made.engine.close()
    supervisor.terminate()
    await asyncio.to_thread(supervisor.wait, 120)
    listener.close()
    # Those that a busy daemon does not remove while the supervisor waits for it end by themselves.
    await asyncio.to_thread(machine.until, lambda: not daemon.containers(os.getpid()), "no container is left")
