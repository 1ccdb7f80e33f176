"""Fifty clients at once, while containers are removed behind the server's back: everybody is answered, and nothing is
left."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, machine
from tests.support.calls import body
from tests.support.server import Server

CLIENTS, SECONDS = 50, 12.0
POOL = {"python": 4, "bash": 0, "node": 0, "bun": 0, "deno": 0}


def _one_client(server: Server, number: int, until: float) -> list[httpx.Response]:
    answers: list[httpx.Response] = []
    with server.client(seconds=120) as client:
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


def test_fifty_clients(serve: Serve) -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    server = serve({"pool": POOL, "maxConcurrent": 8})
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        removing = threads.submit(_remove_some, server, until)
        work = [threads.submit(_one_client, server, number, until) for number in range(CLIENTS)]
        answers = {number: each.result(180) for number, each in enumerate(work)}
    assert removing.result() > 0
    assert all(answers.values()), "somebody was never answered"
    failed = 0
    for number, each in answers.items():
        for answer in each:
            if answer.status_code == 200:
                assert answer.json()["stdout"] == f"{number}\n"
            else:  # its container was removed: that is said
                assert answer.json()["error"].startswith("Execution failed: "), answer.text
                failed += 1
    assert failed <= removing.result()
    with server.client() as client:
        assert client.post("/execute", json=body("print(1)")).json()["stdout"] == "1\n"
    machine.until(
        lambda: len(daemon.containers(server.pid)) == POOL["python"],
        lambda: f"the warm pool alone: {len(daemon.containers(server.pid))} containers",
    )
    server.process.terminate()
    server.process.wait(60)
    assert daemon.containers(server.pid) == []
