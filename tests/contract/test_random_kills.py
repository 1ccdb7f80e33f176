"""Any of the server's parts may be killed at any moment under load: it recovers by itself, and nothing is left."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import httpx

from tests.conftest import Serve
from tests.support import engines, machine
from tests.support.calls import body
from tests.support.server import Server

KILLS = {"native": 20}  # elsewhere a start takes seconds
FEW = 5
CLIENTS = 4


def _parts(server: Server) -> dict[str, set[int]]:
    """The processes that may die: those below the main one, and the zygote below the supervisor."""
    children = {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}
    sandboxed = machine.cgroup_members(server.pid)
    below = {pid for pid in machine.descendants(server.pid) if machine.parent(pid) in children}
    return {"API or supervisor": children, "zygote": below - sandboxed}


def _load(server: Server, stop: threading.Event, wrong: list[str]) -> None:
    """Execute until told to stop. What fails must fail as an error; an answer must be the right one."""
    with server.client() as client:
        while not stop.is_set():
            token = f"{random.getrandbits(64)}"
            with contextlib.suppress(httpx.TransportError):
                answer = client.post("/execute", json=body(f"print('{token}')"))
                if answer.status_code == 200:
                    if answer.json()["stdout"] != f"{token}\n":
                        wrong.append(answer.text)
                elif answer.status_code not in (500, 503) or "error" not in answer.json():
                    wrong.append(answer.text)


def _works(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.post("/execute", json=body("print('hello')")).status_code == 200
    return False


def test_any_part_may_die_at_any_moment(serve: Serve) -> None:
    running = serve()
    chance = random.Random(20)
    stop, wrong = threading.Event(), list[str]()
    clients = [threading.Thread(target=_load, args=(running, stop, wrong)) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        with running.client() as client:
            for _ in range(KILLS.get(engines.CURRENT["engine"], FEW)):
                machine.until(lambda: _works(client), "an answer")
                time.sleep(chance.uniform(0, 0.3))  # not a wait for anything: the moment is what is random
                victims = sorted(chance.choice([pids for pids in _parts(running).values() if pids]))
                machine.kill({chance.choice(victims)})
            machine.until(lambda: _works(client), "an answer after the last kill")
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert not wrong
    # That nothing is left after the end is asserted when the server is stopped.
