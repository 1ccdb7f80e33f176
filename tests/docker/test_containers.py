"""Containers: what they are made from, that they go, and that nothing else of the daemon's is touched."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from isol8.engines.docker.owners import owner_label
from isol8.errors import Conflict, EngineFailure
from tests.docker.conftest import IMAGE, LIMITS, Lab, python
from tests.support import daemon, machine
from tests.support.creations import give_up_making

DEAD = 4_194_303  # the highest pid there can be, and nobody's


def _inspect(name: str) -> dict[str, Any] | None:
    with daemon.client() as client:
        answer = client.get(f"/containers/{name}/json")
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return found


async def test_one_runs_and_is_gone(lab: Lab) -> None:
    sandbox = await lab.create()
    assert await python(sandbox, "print('hello')") == (0, "hello\n")
    usage = await lab.engine.usage(sandbox)
    assert usage.cpu_ms > 0
    assert usage.peak_memory_bytes > 1 << 20
    assert _inspect(f"isol8-{sandbox.id}")
    await lab.engine.destroy(sandbox)
    await lab.engine.destroy(sandbox)
    assert sandbox.dead
    assert _inspect(f"isol8-{sandbox.id}") is None
    with pytest.raises(EngineFailure):
        await python(sandbox, "print('hello')")


async def test_one_that_is_not_waited_for_any_more_does_not_stay(lab: Lab) -> None:
    """A client goes away while its container is being made."""
    await lab.engine.destroy(await lab.create())

    def now() -> tuple[int, int]:
        return len(daemon.containers(os.getpid())), len(machine.descriptors(lab.supervisor.pid))

    before = now()
    await give_up_making(lab.engine, lab.create)
    # Idle connections to the daemon are closed after a while, and their number may be lower then.
    await asyncio.to_thread(
        machine.until, lambda: all(map(int.__le__, now(), before)), lambda: f"{before}, not {now()}"
    )


async def test_everything_is_on(lab: Lab) -> None:
    sandbox = await lab.create()
    found = _inspect(f"isol8-{sandbox.id}")
    assert found
    host, config = found["HostConfig"], found["Config"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False)
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert host["AutoRemove"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp=") and "SCMP_ACT_ERRNO" in option for option in host["SecurityOpt"])
    assert host["Memory"] == host["MemorySwap"] == LIMITS.memory_bytes
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (100_000, 100_000, LIMITS.pids + 1)
    assert set(host["Tmpfs"]) == {"/sandbox", "/tmp"}
    assert "noexec" in host["Tmpfs"]["/tmp"].split(",")
    assert int(config["User"].split(":")[0]) > 65536
    assert not found["Mounts"]
    assert config["Labels"][daemon.LABEL] == owner_label(os.getpid())
    assert {limit["Name"] for limit in host["Ulimits"]} >= {"core", "nofile"}


async def test_limits_change_on_a_live_one(lab: Lab) -> None:
    sandbox = await lab.create()
    grab = "b = bytearray(100 << 20); print(len(b))"
    assert (await python(sandbox, grab))[0] == 0
    await lab.engine.limit(sandbox, dataclasses.replace(LIMITS, memory_bytes=48 << 20, pids=3, cpus=0.5))
    assert (await python(sandbox, grab))[0] == 137
    assert (await lab.engine.usage(sandbox)).oom_kills == 1
    found = _inspect(f"isol8-{sandbox.id}")
    assert found
    assert (found["HostConfig"]["PidsLimit"], found["HostConfig"]["CpuQuota"]) == (4, 50_000)


async def test_sizes_change_on_a_live_one(lab: Lab) -> None:
    sandbox = await lab.create()
    fill = "open('/sandbox/x', 'wb').write(bytes({} << 20))"
    assert (await python(sandbox, fill.format(100)))[0] == 1
    await lab.engine.limit(sandbox, dataclasses.replace(LIMITS, sandbox_bytes=128 << 20))
    assert (await python(sandbox, fill.format(100)))[0] == 0
    with pytest.raises(Conflict):
        await lab.engine.limit(sandbox, dataclasses.replace(LIMITS, sandbox_bytes=50 << 20, memory_bytes=512 << 20))
    found = _inspect(f"isol8-{sandbox.id}")
    assert found
    assert found["HostConfig"]["Memory"] == LIMITS.memory_bytes, "a change that fails leaves everything as it was"


async def test_one_removed_behind_our_back(lab: Lab) -> None:
    sandbox, other = await lab.create(), await lab.create()
    running = asyncio.create_task(python(sandbox, "import time; time.sleep(600)"))
    with daemon.client() as client:
        answer = await asyncio.to_thread(client.delete, f"/containers/isol8-{sandbox.id}", params={"force": 1})
    assert answer.status_code == 204
    with pytest.raises(EngineFailure):
        await running
    assert sandbox.dead
    assert (await lab.engine.usage(sandbox)).oom_kills == 0
    await lab.engine.destroy(sandbox)
    assert await python(other, "print(1)") == (0, "1\n")
    assert await python(await lab.create(), "print(2)") == (0, "2\n")


async def test_a_kill_for_memory_that_takes_all_of_it(lab: Lab) -> None:
    """The cgroup ends with the container, and with it the kernel's count."""
    sandbox = await lab.create(dataclasses.replace(LIMITS, memory_bytes=64 << 20, sandbox_bytes=256 << 20))
    assert (await python(sandbox, "bytearray(200 << 20)"))[0] == 137
    before = await lab.engine.usage(sandbox)
    with pytest.raises(EngineFailure, match="the sandbox ended"):  # the runner has nobody else to be killed before it
        await sandbox.put("/sandbox/large", bytes(200 << 20))
    await asyncio.to_thread(machine.until, lambda: not _inspect(f"isol8-{sandbox.id}"), "the daemon has removed it")
    assert (await lab.engine.usage(sandbox)).oom_kills > before.oom_kills >= 1


async def test_a_killed_supervisor_leaves_no_container(lab: Lab) -> None:
    """Its containers see the end of their input, end, and are removed by the daemon."""
    for _ in range(2):
        await lab.create()
    assert len(daemon.containers(os.getpid())) == 2
    lab.supervisor.kill()
    await asyncio.to_thread(machine.until, lambda: not daemon.containers(os.getpid()), "they are gone")


@contextmanager
def _container(labels: dict[str, str]) -> Iterator[str]:
    """A running container that no server knows."""
    name = f"test-{uuid.uuid4().hex}"
    body = {"Image": IMAGE, "Cmd": ["sleep", "600"], "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
    with daemon.client() as client:
        assert client.post("/containers/create", params={"name": name}, json=body).status_code == 201
        try:
            assert client.post(f"/containers/{name}/start").status_code == 204
            yield name
        finally:
            client.delete(f"/containers/{name}", params={"force": 1})


def test_start_removes_what_dead_servers_left_and_nothing_else() -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    mine = owner_label(os.getpid())
    dead = mine.rsplit("-", 2)[0] + f"-{DEAD}-1"
    elsewhere = "another-machine/" + dead.partition("/")[2]
    with (
        _container({daemon.LABEL: dead}) as left,
        _container({}) as foreign,
        _container({daemon.LABEL: mine}) as live,
        _container({daemon.LABEL: elsewhere}) as remote,
    ):
        command = [sys.executable, "-m", "isol8", "doctor", "--engine", "docker"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert _inspect(left) is None
        for name in (foreign, live, remote):
            assert _inspect(name), name
