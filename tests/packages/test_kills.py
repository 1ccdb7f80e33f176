"""Builds given up or killed half way, and a store that is full: nothing half-made stays, nothing in use goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.packages.conftest import Shop, at_rest, layers
from tests.packages.index import Index
from tests.packages.wheels import wheel, wheel_name
from tests.support import engines, machine
from tests.support import server as servers
from tests.support.calls import body, execute, send, stdout
from tests.support.server import Server

NO_POOL = {"python": 0, "bash": 0, "node": 0, "bun": 0, "deno": 0}


@pytest.fixture
def data(tmp_path: Path, data_dir: Path) -> Path:
    """A data directory of this test's own."""
    (tmp_path / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    return tmp_path


@pytest.fixture
def stalled(index: Index) -> Iterator[Index]:
    """The index, which gives no file until its gate is opened."""
    index.gate.clear()
    yield index
    index.gate.set()


def part(server: Server, module: str) -> int:
    """The process of the server that runs a module; what that has forked in passing looks the same."""
    (found,) = {pid for pid in machine.running(module) if machine.parent(pid) == server.pid}
    return found


def settled(server: Server, name: str) -> None:
    """Wait until a sandbox is gone."""
    machine.until(lambda: not machine.cgroups_of_sandbox(server.pid, name), f"{name} is gone")


def test_a_build_that_nobody_waits_for_is_given_up(shop: Shop, stalled: Index, data: Path) -> None:
    server = shop({"pool": NO_POOL}, data=data)
    stalled.add_wheel("abandoned")
    with server.client() as client:
        settled(server, execute(client, "print(1)")["containerId"])
        before = len(machine.cgroups(server.pid))
        with send(server, "/execute", body("1", installPackages=["abandoned"])):
            machine.until(lambda: stalled.fetched("abandoned"), "the build has begun")
            assert len(machine.cgroups(server.pid)) > before
        machine.until(lambda: len(machine.cgroups(server.pid)) <= before, "the build's sandbox is gone")
        machine.until(lambda: layers(data) == [], "nothing of it is in the store")
        stalled.gate.set()
        assert stdout(client, "import abandoned; print(2)", installPackages=["abandoned"]) == "2\n"


def test_one_who_leaves_does_not_end_it_for_the_others(shop: Shop, stalled: Index, data: Path) -> None:
    server = shop(data=data)
    stalled.add_wheel("shared")
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        staying = pool.submit(execute, client, "import shared; print(1)", installPackages=["shared"])
        machine.until(lambda: stalled.fetched("shared"), "the build has begun")
        with send(server, "/execute", body("1", installPackages=["shared"])):
            client.get("/sessions")  # which the server reads after that
        stalled.gate.set()
        assert staying.result()["stdout"] == "1\n"
    assert stalled.fetched("shared") == 1


@pytest.mark.parametrize("module", ["isol8.packages.keeper", "supervisor", "isol8.egress.process"])
def test_a_killed_part_fails_the_build_and_no_later_one(shop: Shop, stalled: Index, data: Path, module: str) -> None:
    server = shop({"packages": {"buildTimeoutMs": 60_000}}, data=data)
    name = f"killed-{module.rpartition('.')[2]}"
    stalled.add_wheel(name)
    code = f"import {name.replace('-', '_')}; print(1)"
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, "/execute", json=body(code, installPackages=[name]))
        machine.until(lambda: stalled.fetched(name), "the build has begun")
        os.kill(part(server, engines.supervisor() if module == "supervisor" else module), signal.SIGKILL)
        stalled.gate.set()
        assert call.result().status_code == 500, call.result().text
        machine.until(
            lambda: client.post("/execute", json=body(code, installPackages=[name])).status_code == 200, "it is mended"
        )
    at_rest(data)


def test_a_killed_server_leaves_nothing_that_the_next_does_not_clear(shop: Shop, stalled: Index, data: Path) -> None:
    environment = {"ISOL8_DATA_DIR": str(data), **stalled.environment}
    first = servers.start(data / "first", environment=environment)
    stalled.add_wheel("interrupted")
    with first.client() as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, "/execute", json=body("1", installPackages=["interrupted"]))
        machine.until(lambda: any(entry.startswith(".making-") for entry in layers(data)), "the build has begun")
        machine.kill(first.processes() - {first.pid}, signal.SIGSTOP)  # so that nobody can clear up
        first.process.kill()
        machine.kill(first.processes())
        first.process.wait()
        # What a dead keeper was making is cleared away when nobody holds a lock on it any more.
        machine.until(lambda: not first.processes(), "all of it has ended")
        with pytest.raises(httpx.TransportError):
            call.result()
    stalled.gate.set()
    with shop(data=data).client() as client:
        assert stdout(client, "import interrupted; print(1)", installPackages=["interrupted"]) == "1\n"
    (layer,) = layers(data)
    assert not layer.startswith(".")


def test_a_killed_keeper_lets_no_layer_in_use_go(shop: Shop, index: Index, data: Path) -> None:
    server = shop({"packages": {"storeSize": "3m", "demandedTemplates": 0}}, data=data)
    for name in ("needed", "filler-a", "filler-b", "filler-c"):
        content = wheel(name, {f"{name.replace('-', '_')}.py": "x = 1", "filling.bin": os.urandom(900_000)})
        index.add(name, wheel_name(name), content)
    with server.client() as client:
        stdout(client, "import needed", installPackages=["needed"], sessionId="holder")
        os.kill(keeper := part(server, "isol8.packages.keeper"), signal.SIGKILL)
        machine.until(lambda: machine.started(keeper) is None, "the keeper is dead")
        for name in ("filler-a", "filler-b", "filler-c"):
            machine.until(
                lambda name=name: client.post("/execute", json=body("1", installPackages=[name])).status_code == 200,  # type: ignore[misc]
                "the keeper is back",
            )
        assert stdout(client, "import needed; print(needed.x)", sessionId="holder") == "1\n"
        client.delete("/session/holder")


def test_room_is_made_but_never_with_what_is_in_use(shop: Shop, index: Index, data: Path) -> None:
    server = shop({"packages": {"storeSize": "3m", "demandedTemplates": 0}}, data=data)
    names = [f"room-{letter}" for letter in "abcdef"]
    for name in names:
        module = name.replace("-", "_")
        content = wheel(name, {f"{module}.py": "x = 1", f"{module}.bin": os.urandom(900_000)})
        index.add(name, wheel_name(name), content)
    with server.client() as client:
        stdout(client, "import room_a", installPackages=["room-a"], sessionId="holder")
        for name in names[1:]:
            module = name.replace("-", "_")
            assert stdout(client, f"import {module}; print({module}.x)", installPackages=[name]) == "1\n"
        assert stdout(client, "import room_a; print(room_a.x)", sessionId="holder") == "1\n"
        assert len(layers(data)) == 3
        client.delete("/session/holder")
        stdout(client, "import room_a", installPackages=["room-a"])
        assert index.fetched("room-a") == 1  # it was still there
        problem = client.post("/execute", json=body("1", installPackages=names))
        assert "packages.storeSize" in problem.json()["error"], problem.text


def test_nothing_is_left_of_many_installs(shop: Shop, index: Index, data: Path) -> None:
    server = shop({"pool": NO_POOL}, data=data)
    with server.client() as client:
        for number in range(4):
            index.add_wheel(f"many-{number}")
            stdout(client, f"import many_{number}", installPackages=[f"many-{number}"])
        parts = [part(server, "isol8.packages.keeper"), part(server, engines.supervisor())]
        before = [len(machine.descriptors(pid)) for pid in parts]
        for number in range(4):
            for _ in range(3):
                stdout(client, f"import many_{number}", installPackages=[f"many-{number}"])
            index.add_wheel(f"more-{number}")
            stdout(client, f"import more_{number}", installPackages=[f"more-{number}"], sessionId=f"s{number}")
            client.delete(f"/session/s{number}")

        def grown() -> list[int]:
            return [len(machine.descriptors(pid)) - then for pid, then in zip(parts, before, strict=True)]

        # The keeper holds what templates hold; templates wait, too.
        machine.until(lambda: max(grown()) <= 20, lambda: f"no more than before: {grown()}")
    assert str(data) not in Path("/proc/self/mountinfo").read_text()
