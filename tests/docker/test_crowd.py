"""Fifty clients at once, while containers are removed behind the server's back, or the daemon is restarted: everybody
is answered, and nothing is left. For CROWD_SECONDS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, dockerd, machine
from tests.support.calls import body
from tests.support.server import STOP_SECONDS, Server

CLIENTS = 50
SECONDS = float(os.environ.get("CROWD_SECONDS", "12"))
POOL = {"python": 4, "bash": 0, "node": 0, "bun": 0, "deno": 0}


def _one_client(server: Server, number: int, until: float) -> list[httpx.Response]:
    answers: list[httpx.Response] = []
    with server.client() as client:
        while not answers or time.monotonic() < until:
            answers.append(client.post("/execute", json=body(f"print({number})")))
    return answers


def _remove_some(server: Server, until: float) -> int:
    removed = 0
    with daemon.client() as client:
        while time.monotonic() < until:
            for each in daemon.containers(server.pid)[:1]:
                removed += client.delete(f"/containers/{each['Id']}", params={"force": 1}).status_code == 204
            time.sleep(1)  # the rate at which containers are removed
    return removed


def _crowd(server: Server, until: float, disturb: Callable[[], int]) -> tuple[list[str], int]:
    """Fifty clients until then, while something goes wrong: what those that failed were told, and what `disturb` gives.
    Everybody has been answered, and who was answered 200 with what is right."""
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        disturbing = threads.submit(disturb)
        work = [threads.submit(_one_client, server, number, until) for number in range(CLIENTS)]
        answers = {number: each.result() for number, each in enumerate(work)}
    assert all(answers.values()), "somebody was never answered"
    failed = []
    for number, each in answers.items():
        for answer in each:
            if answer.status_code == 200:
                assert answer.json()["stdout"] == f"{number}\n"
            else:
                assert answer.json()["error"].startswith("Execution failed: "), answer.text
                failed.append(answer.json()["error"])
    return failed, disturbing.result()


def _recovers(server: Server, host: str) -> None:
    """It works again, and has its warm pool and nothing else; and nothing when it has stopped."""
    with server.client() as client:
        machine.until(lambda: client.post("/execute", json=body("print(1)")).status_code == 200, "an answer")
    machine.until(
        lambda: len(daemon.containers(server.pid, host)) == POOL["python"],
        lambda: f"the warm pool alone: {len(daemon.containers(server.pid, host))} containers",
    )
    server.process.terminate()
    server.process.wait(STOP_SECONDS)
    assert daemon.containers(server.pid, host) == []


def test_fifty_clients(serve: Serve) -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    server = serve({"pool": POOL, "maxConcurrent": 8})
    until = time.monotonic() + SECONDS
    failed, removed = _crowd(server, until, lambda: _remove_some(server, until))
    assert removed > 0
    assert len(failed) <= removed, failed  # whose container was removed: that is said
    _recovers(server, "")


def test_fifty_clients_of_a_daemon_that_is_restarted(serve: Serve) -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    with dockerd.running() as own:
        own.load(dockerd.base_image())
        server = serve({"pool": POOL, "maxConcurrent": 8, "docker": {"host": own.host, "image": dockerd.base_image()}})

        def restart() -> int:
            time.sleep(SECONDS / 3)  # in the middle
            own.stop()
            time.sleep(1)  # so that it is missed
            own.start()
            return 1

        failed, _ = _crowd(server, time.monotonic() + SECONDS, restart)
        assert failed, "nobody has missed it"
        _recovers(server, own.host)
