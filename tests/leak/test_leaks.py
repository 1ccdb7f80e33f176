"""After 500 mixed executions, many at once, the machine is as it was before."""

from __future__ import annotations

import collections
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.leak.mixture import kinds
from tests.support import engines, machine
from tests.support.calls import body, execute, parse_events
from tests.support.server import KEY, SMALL_POOL, STOP_SECONDS, Server, serving, start

AT_ONCE = 8
_LOOKS = 100
MIB = 1 << 20
# Other test processes have servers of their own then; only what carries this server's name can be counted.
ALONE = "PYTEST_XDIST_WORKER" not in os.environ


def _stray_names() -> set[str]:
    """Entries that would be ours in the machine's shared directories."""
    places = ("/tmp", "/run", "/dev/shm", "/var/tmp", "/mnt")
    existing = [place for place in places if os.path.isdir(place)]
    return {f"{place}/{name}" for place in existing for name in os.listdir(place) if "isol8" in name}


def _kinds_of_descriptors(server: Server) -> dict[str, int]:
    """How many of each kind the server's long-lived processes have open; numbers in names do not count."""
    counts: collections.Counter[str] = collections.Counter()
    for pid in _lasting(server):
        for target in machine.descriptors(pid):
            kind = target if target.startswith("/") else target.partition(":")[0]
            counts["".join(c for c in kind if not c.isdigit())] += 1
    return dict(counts)


def _lasting(server: Server) -> set[int]:
    """The processes that serve: not those in sandboxes, which come and go."""
    return server.processes() - machine.cgroup_members(server.pid)


def _state(server: Server) -> dict[str, Any]:
    state = {
        "processes": len(server.processes()),
        "cgroups": len(machine.cgroups(server.pid)),
        "descriptors": _kinds_of_descriptors(server),
        "temporary files": sorted(os.listdir(server.directory / "tmp")),
    }
    if ALONE:
        # What a container engine mounts has the container's id in it.
        mounts = sorted(re.sub(r"[0-9a-f]{12,}", "", place) for place in machine.mounts())
        state |= {"mounts": mounts, "stray names": sorted(_stray_names())}
    return state


def _settled(server: Server) -> dict[str, Any]:
    """The state once the pool is full again and nothing is being destroyed: the same for some seconds, since whoever
    makes a sandbox may be held up."""
    seen: collections.deque[dict[str, Any]] = collections.deque(maxlen=_LOOKS)

    def still() -> dict[str, Any] | None:
        seen.append(_state(server))
        return seen[0] if len(seen) == _LOOKS and all(state == seen[0] for state in seen) else None

    return machine.until(still, "a server at rest")


def _run(server: Server, numbers: range, ready: list[str]) -> None:
    chosen = itertools.islice(kinds(ready), len(numbers))
    with server.client() as client, ThreadPoolExecutor(AT_ONCE) as pool:
        for call in [pool.submit(kind, client, number) for kind, number in zip(chosen, numbers, strict=True)]:
            call.result()


def _ready(server: Server) -> list[str]:
    with server.client() as client:
        return [entry["name"] for entry in client.get("/runtimes").json()["runtimes"] if entry["ready"]]


@pytest.fixture
def fresh(serve: Serve) -> Server:
    """A server for one test, with room for every session the mixture has at once."""
    return serve({"pool": SMALL_POOL})


@pytest.mark.slow
def test_500_mixed_executions_leave_nothing(fresh: Server) -> None:
    ready = _ready(fresh)
    warm_up, measured = (150, 350) if engines.CURRENT["engine"] == "native" else (40, 80)
    _run(fresh, range(warm_up), ready)
    before = _settled(fresh)
    memory = {pid: machine.resident_bytes(pid) for pid in _lasting(fresh)}
    _run(fresh, range(warm_up, warm_up + measured), ready)
    _settled(fresh)

    def changed() -> dict[str, object]:
        after = _state(fresh)
        return {name: (value, after[name]) for name, value in before.items() if value != after[name]}

    machine.until(lambda: not changed(), lambda: f"all is as it was: {changed()}")
    grown = {pid: (machine.resident_bytes(pid) - size) / MIB for pid, size in memory.items()}
    assert max(grown.values()) < 16, f"MiB that each process grew by: {grown}"


@pytest.mark.cgroup
def test_stopping_leaves_nothing(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> None:
    names, mounted = _stray_names(), machine.mounts()
    with serving(tmp_path_factory.mktemp("server")) as server, server.client() as client:
        for number in range(3):
            execute(client, "setsid sleep 3600 & echo x > x", "bash", sessionId=f"left-{number}")
    assert server.left() == {}
    if ALONE:
        assert (_stray_names(), machine.mounts()) == (names, mounted)


@pytest.mark.cgroup
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_the_server(
    tmp_path_factory: pytest.TempPathFactory, serve: Serve, sent: signal.Signals
) -> None:
    server = start(tmp_path_factory.mktemp("server"))
    with server.client() as client:
        execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
    server.processes()
    server.process.send_signal(sent)
    server.process.wait(STOP_SECONDS)
    machine.until(lambda: not server.left(), lambda: f"nothing is left: {server.left()}")


@pytest.mark.cgroup
def test_killing_the_server_leaves_no_process(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> None:
    """SIGKILL gives the server no chance to clean up: what it started must end by itself."""
    server = start(tmp_path_factory.mktemp("server"))
    with server.client() as client:
        if not engines.of_docker():  # whose sessions outlive that
            execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
        code = "print('on', flush=True)\nimport time\ntime.sleep(3600)"
        with client.stream("POST", "/execute/stream", json=body(code, timeoutMs=600_000)) as answer:
            received = parse_events(answer.iter_lines())  # kept: letting go of it hangs up
            next(received)
            assert len(server.processes()) > 3
            server.process.kill()
            server.process.wait()
    machine.until(lambda: not server.processes(), "no process is left")
    # Directories of groups may outlive the process; the next start removes them.
    with serving(tmp_path_factory.mktemp("server")):
        assert machine.cgroups(server.pid) == []


def test_killing_a_server_that_is_still_starting_leaves_no_process(tmp_path: Path, serve: Serve) -> None:
    """Its supervisor is held still, so that the API process waits for it when the launcher and it are killed."""
    command = [sys.executable, "-m", "isol8", "serve", "--port", "0"]
    environment = os.environ | {"ISOL8_API_KEY": KEY, "HOME": str(tmp_path)}
    launcher = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        supervisor = machine.until(lambda: _child(launcher.pid, "isol8.engines.native.supervisor"), "a supervisor")
        os.kill(supervisor, signal.SIGSTOP)
        # The last one that is started before the API process, which is not started but forked.
        machine.until(lambda: _child(launcher.pid, "isol8.packages.keeper"), "a keeper")
        api = machine.until(lambda: _child(launcher.pid, "\0serve\0"), "an API process")
        children = machine.descendants(launcher.pid)
        machine.until(lambda: machine.descriptors(api).count("anon_inode:[eventpoll]") > 0, "it has begun to wait")
    finally:
        launcher.kill()
        launcher.wait()
    os.kill(supervisor, signal.SIGKILL)
    try:
        machine.until(lambda: not machine.alive(children), "no process is left")
    finally:
        machine.kill(machine.alive(children))


def _child(launcher: int, word: str) -> int | None:
    """The child with this in its command line, if there is one."""
    return next((pid for pid in machine.running(word) if machine.parent(pid) == launcher), None)


def test_the_machine_cannot_be_filled_with_connections(fresh: Server) -> None:
    """Connections that are opened and dropped, half a request in, cost nothing afterwards."""
    with fresh.client() as client:
        execute(client, "print(1)")
        before = len(machine.descriptors(fresh.pid))
        address = ("127.0.0.1", int(fresh.url.rpartition(":")[2]))
        for _ in range(200):
            with socket.create_connection(address) as connection:
                connection.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Le")
        machine.until(lambda: len(machine.descriptors(fresh.pid)) <= before + 2, "descriptors as before")
        assert execute(client, "print(1)")["stdout"] == "1\n"
