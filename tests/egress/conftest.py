"""A world for each module (world.py), with hosts in it (origins.py), and real proxies and servers on its machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from isol8.egress.client import Egress, NetworkLog
from isol8.model import EgressPolicy, HostRule
from tests.conftest import Serve
from tests.egress import world
from tests.egress.messages import HOST, OTHER
from tests.egress.origins import Origins, living
from tests.egress.world import World
from tests.support.server import Server

UID = 1_899_999_998


@pytest.fixture(scope="module", autouse=True)
def net() -> Iterator[World]:
    """The test is on a machine of that world now."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = World()
    yield made
    made.leave()


@pytest.fixture(scope="module")
def every_origin(net: World) -> Iterator[Origins]:
    with living(net) as made:
        yield made


@pytest.fixture
def origins(every_origin: Origins) -> Origins:
    """Everything that listens, with nothing seen yet."""
    every_origin.clear()
    every_origin.zone = {HOST: [world.PUBLIC], OTHER: [world.OTHER]}
    return every_origin


@dataclass(frozen=True)
class Surroundings:
    """What makes a process use the world's name server, and trust its authority."""

    wrapper: tuple[str, ...]
    environment: dict[str, str]
    bundle: Path


@pytest.fixture(scope="module")
def surroundings(every_origin: Origins, tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    directory = tmp_path_factory.mktemp("surroundings")
    files = {
        # The name server is a thread of the test's, which may be held up; it answers what it does not know, too.
        "resolv.conf": f"nameserver {world.NAMES}\noptions timeout:30 attempts:1\n",
        "nsswitch.conf": "hosts: files dns\n",
    }
    mounts = ""
    for name, text in files.items():
        (directory / name).write_text(text)
        mounts += f"mount --bind {directory / name} /etc/{name} && "
    bundle = directory / "authorities.pem"
    bundle.write_bytes(every_origin.authority.bundle)
    wrapper = ("unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh")
    return Surroundings(wrapper, {"SSL_CERT_FILE": str(bundle)}, bundle)


@dataclass(frozen=True)
class Gate:
    """A gate of a real proxy, and the port it listens on here."""

    port: int
    log: list[NetworkLog]

    async def speak(self, *pieces: bytes) -> bytes:
        """Send, say that this is all, and read to the end."""
        return await asyncio.to_thread(speak, self.port, *pieces)


def speak(port: int, *pieces: bytes, seconds: float = 120) -> bytes:
    """Everything that the proxy answers to what is sent."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already; what it said first is what counts
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


@dataclass(frozen=True)
class RunningProxy:
    """The proxy's process, started as the launcher would."""

    process: subprocess.Popen[bytes]
    egress: Egress

    @asynccontextmanager
    async def gate(self, policy: EgressPolicy | None = None) -> AsyncIterator[Gate]:
        """By default, one that lets HOST through. `log` has what went through it, afterwards."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        opened = await self.egress.open(listener, policy or allowing(HOST))
        log: list[NetworkLog] = []
        try:
            yield Gate(port, log)
        finally:
            log.append(await opened.close())


@pytest.fixture(scope="module")
def proxy(surroundings: Surroundings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(surroundings, tmp_path_factory.mktemp("proxy") / "log", {}) as made:
        yield made


@contextmanager
def running_proxy(
    surroundings: Surroundings, log: Path, environment: dict[str, str], *, killed: bool = False, **options: object
) -> Iterator[RunningProxy]:
    """A proxy's process. What it has to complain about goes to `log`, and no bug may be in there. `killed`: the test
    kills it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0isol8-test-proxy-{os.getpid()}-{id(listener)}"
    listener.bind(address)
    listener.listen()
    given = {"owner": os.getpid(), "client_uid": os.getuid(), "uid": UID} | options
    command = [sys.executable, "-P", "-m", "isol8.egress.process", str(listener.fileno()), json.dumps(given)]
    with listener, log.open("wb") as output:
        process = subprocess.Popen(
            [*surroundings.wrapper, *command],
            pass_fds=[listener.fileno()],
            env=os.environ | surroundings.environment | environment,
            stderr=output,
        )
        try:
            yield RunningProxy(process, Egress(address, os.getuid()))
            assert killed or process.poll() is None, log.read_text()
        finally:
            process.terminate()
            assert process.wait(120) == (-signal.SIGKILL if killed else 0)
    assert "Traceback" not in log.read_text(), log.read_text()


def allowing(*hosts: str, **more: object) -> EgressPolicy:
    """A policy that lets exactly these hosts through, on the usual ports and 8080, and logs."""
    rules = tuple(HostRule(f"whitelist[{index}]", re.escape(host)) for index, host in enumerate(hosts))
    values = {"allow": (rules,), "ports": (80, 443, 8080), "log": True} | more
    return EgressPolicy(**values)  # type: ignore[arg-type]


CONFIG = {
    "policy": {"networks": ["none", "filtered"]},
    "network": {"ports": [80, 443, 8080]},
    "pool": {"python": 1, "node": 1, "bash": 1, "bun": 1, "deno": 1},
}


@pytest.fixture(scope="module")
def filtering(serve: Serve, surroundings: Surroundings) -> Server:
    """A server that lets sandboxes have a filtered network."""
    return serve(CONFIG, wrapper=surroundings.wrapper, environment=surroundings.environment)


@pytest.fixture(scope="module")
def client(filtering: Server) -> Iterator[httpx.Client]:
    """A client of that server."""
    with filtering.client() as made:
        yield made
