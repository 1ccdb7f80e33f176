"""`docker.runtime: "runsc"`: every container under gVisor, on a daemon that knows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon
from tests.support.calls import body, execute, refusal

POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}


@pytest.fixture(scope="module", autouse=True)
def _known() -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    with daemon.client() as client:
        if "runsc" not in client.get("/info").json()["Runtimes"]:
            pytest.skip("the Docker daemon does not know gVisor as the runtime runsc")


@pytest.fixture(scope="module")
def client(serve: Serve) -> Iterator[httpx.Client]:
    with serve({"docker": {"runtime": "runsc"}, "pool": POOL}).client(seconds=120) as made:
        yield made


def test_doctor_shows_the_kernel_of_its_own() -> None:
    command = [sys.executable, "-m", "isol8", "doctor", "--engine", "docker", "--json"]
    environment = {"ISOL8_DOCKER_RUNTIME": "runsc", "DOCKER_HOST": daemon.address(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = {layer["name"]: layer for layer in json.loads(done.stdout)["layers"]}
    assert layers["own-kernel"]["enforced"]
    assert "seccomp" not in layers, "programs do not speak to the machine's kernel"


def test_programs_run_on_a_kernel_of_their_own(client: httpx.Client) -> None:
    assert "Starting gVisor" in execute(client, "dmesg", "bash")["stdout"]


def test_programs_and_how_they_end(client: httpx.Client) -> None:
    for code, language in (("print('hello')", "python"), ("echo hello", "bash"), ("console.log('hello')", "node")):
        assert execute(client, code, language)["stdout"] == "hello\n"
    assert execute(client, "raise SystemExit(3)")["exitCode"] == 3
    assert execute(client, "import time; time.sleep(600)", timeoutMs=300)["timedOut"]
    sent = body("x = b'x' * (400 << 20)", options={"memoryLimit": "128m"})
    # All of the container ends, and Docker takes its cgroup away with what it has counted.
    refusal(client.post("/execute", json=sent), 500, "Execution failed")
    execute(client, "open('kept', 'w').write('x')", sessionId="kept")
    assert execute(client, "print(open('kept').read())", sessionId="kept")["stdout"] == "x\n"
    client.delete("/session/kept")
