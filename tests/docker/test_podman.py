"""Podman's socket in place of Docker's: the same promises."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, dockerd, machine, podman
from tests.support.calls import body, execute, refusal, refused
from tests.support.server import STOP_SECONDS, Server

POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    with podman.running(dockerd.base_image()) as found:
        yield found


@pytest.fixture(scope="module")
def running(address: str, serve: Serve) -> Server:
    return serve({"docker": {"host": address, "image": dockerd.base_image()}, "pool": POOL})


@pytest.fixture(scope="module")
def client(running: Server) -> Iterator[httpx.Client]:
    with running.client() as made:
        yield made


def test_every_layer_is_enforced(address: str) -> None:
    command = [sys.executable, "-m", "isol8", "doctor", "--engine", "docker", "--json"]
    environment = {"ISOL8_DOCKER_HOST": address, "ISOL8_DOCKER_IMAGE": dockerd.base_image(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    layers = {layer["name"]: layer["enforced"] for layer in json.loads(done.stdout)["layers"]}
    assert {"seccomp", "memory-limit", "no-swap", "own-proc"} <= layers.keys()
    assert all(layers.values()), layers


def test_programs_and_how_they_end(client: httpx.Client) -> None:
    assert execute(client, "print('hello')")["stdout"] == "hello\n"
    assert execute(client, "cat; pwd; touch x && ls", "bash", stdin="in\n")["stdout"] == "in\n/sandbox\nmain.sh\nx\n"
    assert execute(client, "import os; os.kill(os.getpid(), 9)")["exitCode"] == 137
    assert execute(client, "import time; time.sleep(600)", timeoutMs=300)["timedOut"]


def test_limits(client: httpx.Client) -> None:
    """A container's limits stay as they were made: others get a container of their own."""
    sent = body("x = b'x' * (200 << 20)", options={"memoryLimit": "64m"})
    refusal(client.post("/execute", json=sent), 500, "OOM")
    fill = "open('x', 'wb').write(bytes(8 << 20))"
    assert execute(client, fill, options={"sandboxSize": "4m"})["exitCode"] == 1
    assert execute(client, fill, options={"sandboxSize": "16m"})["exitCode"] == 0
    many = "import subprocess\ntry:\n    for _ in range(50): subprocess.Popen(['sleep', '3600'])\n"
    many += "except OSError: print('full')"
    assert execute(client, many, options={"pidsLimit": 20})["stdout"] == "full\n"


def test_sessions(client: httpx.Client) -> None:
    execute(client, "open('kept', 'w').write('x')", sessionId="kept")
    assert execute(client, "print(open('kept').read())", sessionId="kept")["stdout"] == "x\n"
    other = body("1", sessionId="kept", options={"memoryLimit": "64m"})
    refused(client, 409, other, mentions="memoryLimit")
    assert client.delete("/session/kept").status_code == 200


def test_nothing_is_left(address: str, running: Server) -> None:
    def names() -> list[str]:
        with daemon.client(address) as asked:
            return [each["Names"][0] for each in asked.get("/containers/json", params={"all": 1}).json()]

    with running.client() as client:
        execute(client, "setsid sleep 600 & echo 1", "bash", sessionId="left")
    assert names()
    running.process.terminate()
    running.process.wait(STOP_SECONDS)
    machine.until(lambda: not names(), lambda: f"nothing left: {names()}")
