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

import pytest

from isol8.engines.sandbox import Exit, Sandbox
from isol8.engines.supervised import SupervisedEngine
from isol8.model import Boot, Limits, Plan, SandboxSpec
from tests.support import daemon

LIMITS = Limits(memory_bytes=256 << 20, cpus=1.0, pids=64, sandbox_bytes=64 << 20, tmp_bytes=32 << 20)
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/sandbox", "LANG": "C.UTF-8"}
IMAGE = "isol8/sandbox:latest"


@dataclass
class Lab:
    """An engine, and the supervisor it speaks to."""

    engine: SupervisedEngine
    supervisor: subprocess.Popen[bytes]

    async def create(self, limits: Limits = LIMITS, image: str = "") -> Sandbox:
        """A sandbox. `close` of the engine destroys it at the latest."""
        return await self.engine.create(SandboxSpec(runtime="python", limits=limits, boot=Boot(), image=image))


async def python(sandbox: Sandbox, source: str) -> tuple[int, str]:
    """Run a program; its exit code, and its stdout and stderr one after the other."""
    plan = Plan(
        runtime="python",
        executable="python3",
        argv=("python3", "/sandbox/main.py"),
        path="/sandbox/main.py",
        source=source.encode(),
        env={},
        workdir="/sandbox",
        warm=True,
    )
    output = {"stdout": b"", "stderr": b""}
    async for event in sandbox.run(plan, stdin=b"", output_bytes=1 << 20):
        if isinstance(event, Exit):
            return event.code, (output["stdout"] + output["stderr"]).decode()
        output[event.stream] += event.data
    raise AssertionError("a run ends with Exit")


def start_supervisor(listener: socket.socket, host: str = "") -> subprocess.Popen[bytes]:
    """The supervisor process, for the daemon at `host` (by default that of the suite)."""
    options = {
        "owner": os.getpid(),
        "client_uid": os.getuid(),
        "host": host or daemon.address(),
        "context": "",
        "runtime": "",
        "image": IMAGE,
        "environment": ENVIRONMENT,
        "strict": True,
    }
    command = [sys.executable, "-m", "isol8.engines.docker.supervisor", str(listener.fileno()), json.dumps(options)]
    return subprocess.Popen(command, pass_fds=[listener.fileno()])


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"\0isol8-test-{uuid.uuid4().hex}"
    listener.bind(address)
    listener.listen()
    supervisor = await asyncio.to_thread(start_supervisor, listener)
    engine = SupervisedEngine(address, os.getuid())
    await engine.start()
    yield Lab(engine, supervisor)
    await engine.close()
    supervisor.terminate()
    await asyncio.to_thread(supervisor.wait, 30)
    listener.close()
    assert not daemon.containers(os.getpid())
