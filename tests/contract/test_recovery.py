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


def _children(server: Server, *, privileged: bool) -> set[int]:
    """The processes right below the main one that have, or have given up, the rights of root."""
    children = {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}
    return {pid for pid in children if _is_nobody(pid) != privileged}


def _is_nobody(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        return any(line.split()[1:2] == [str(NOBODY)] for line in file if line.startswith("Uid:"))


def _answers(client: httpx.Client) -> Json | None:
    try:
        answer = client.post("/execute", json=body("print('hello')"))
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


@pytest.mark.parametrize("privileged", [False, True], ids=["API", "supervisor"])
def test_a_part_that_is_killed_comes_back(serve: Serve, privileged: bool) -> None:
    running = serve()
    with running.client() as client:
        execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
        before = running.processes()
        victims = _children(running, privileged=privileged)
        assert len(victims) == 1
        os.kill(victims.pop(), signal.SIGKILL)
        assert machine.until(lambda: _answers(client), "an answer", 60)["stdout"] == "hello\n"
        if privileged:
            remaining = machine.until(lambda: before & running.processes() <= {running.pid} | _api(running), "no more")
            assert remaining


def _api(server: Server) -> set[int]:
    return _children(server, privileged=False)


def test_the_api_process_has_no_privilege(server: Server) -> None:
    (api,) = _children(server, privileged=False)
    with open(f"/proc/{api}/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert set(fields["Uid"].split()) == {str(NOBODY)}
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
