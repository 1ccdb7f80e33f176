"""The server's own processes may die: it answers again, and nothing of the dead ones is left."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.conftest import Serve
from tests.support import machine
from tests.support.calls import Json, body, execute
from tests.support.server import Server

pytestmark = pytest.mark.cgroup

NOBODY = 65534
# The parts of a server, each of which runs as a user of its own.
USERS = {"API": NOBODY, "supervisor": 0, "builds": 1_899_999_997, "keeper": 1_899_999_998}


def _part(server: Server, name: str) -> int:
    """The one process right below the main one that is this part."""

    def found() -> int | None:
        pids = {pid for pid in _children(server) if machine.users(pid)[:1] == [USERS[name]]}
        return pids.pop() if len(pids) == 1 else None

    # One that was just started has given up nothing yet.
    return machine.until(found, f"one {name}")


def _children(server: Server) -> set[int]:
    return {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}


def _answers(client: httpx.Client) -> Json | None:
    try:
        answer = client.post("/execute", json=body("print('hello')"))
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


@pytest.mark.parametrize("name", USERS)
def test_a_part_that_is_killed_comes_back(serve: Serve, name: str) -> None:
    running = serve()
    with running.client() as client:
        execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
        before, parts = running.processes(), _children(running)
        victim = _part(running, name)
        os.kill(victim, signal.SIGKILL)
        assert machine.until(lambda: _answers(client), "an answer")["stdout"] == "hello\n"
        if name == "supervisor":
            kept = {running.pid, *parts} - {victim}
            assert machine.until(lambda: before & running.processes() <= kept, "no more of it")
        else:
            machine.until(lambda: _part(running, name) != victim, "another one")


def test_the_api_process_has_no_privilege(server: Server) -> None:
    api = _part(server, "API")
    with open(f"/proc/{api}/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert set(fields["Uid"].split()) == {str(NOBODY)}
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
