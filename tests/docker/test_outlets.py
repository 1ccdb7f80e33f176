"""Ways out of containers: whose they are, and what a program can do to its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, machine
from tests.support.calls import execute, refused
from tests.support.server import Server

POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}
FILTERED = {"policy": {"networks": ["none", "filtered"]}, "pool": POOL}
# As a machine has it that the daemon is not on: the same paths, and other files.
ELSEWHERE = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")

ASK = """
import socket
def ask(way, host):
    way.sendall(f'GET http://{host}/ HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n'.encode())
    return way.makefile('rb').read().split()[1].decode()
def outside(seconds=60):
    way = socket.socket(socket.AF_UNIX)
    way.settimeout(seconds)
    way.connect('/run/isol8/out')
    return way
"""
CHANGE = """
import os, socket
def tried(name, *arguments):
    try: getattr(os, name)(*arguments)
    except OSError as error: return error.strerror
    return 'done'
print([tried('unlink', '/run/isol8/out'), tried('rename', '/run/isol8/out', '/run/isol8/old'),
       tried('mkdir', '/run/isol8/new'), tried('symlink', '/tmp', '/run/isol8/link'), tried('rmdir', '/run/isol8'),
       tried('rename', '/run/isol8', '/run/other'), tried('chmod', '/run/isol8/out', 0),
       tried('chmod', '/run/isol8', 0), tried('link', '/run/isol8/out', '/sandbox/out')])
taken = socket.socket(socket.AF_UNIX)
try: taken.bind('/run/isol8/mine')
except OSError as error: print(error.strerror)
print(sorted(os.listdir('/run/isol8')), ask(outside(), 'one.example'))
"""
PASS = """
import array, os
for _ in range(20):
    way = outside()
    held = [os.open('/sandbox/main.py', os.O_RDONLY) for _ in range(10)]
    way.sendmsg([b'GET http://one.example/ HTTP/1.1\\r\\n'], [(1, 1, array.array('i', held))])
    way.sendmsg([b'Host: one.example\\r\\n\\r\\n'], [(1, 1, array.array('i', held))])
    print(way.recv(12)[-3:].decode(), end=' ')
"""
FLOOD = """
import os, time
if os.fork() == 0:  # stays behind
    os.setsid()
    held, report = [], open('/sandbox/.full', 'w')
    for call in (lambda: outside(5), lambda: socket.create_connection(('127.0.0.1', 3128), 1)):
        try:
            for _ in range(3000): held.append(call())
        except OSError: pass
    print(len(held), file=report, flush=True)
    os.rename('/sandbox/.full', '/sandbox/full')
    time.sleep(600)
while not os.path.exists('/sandbox/full'): time.sleep(0.05)
print(int(open('/sandbox/full').read()) > 100)
"""


def options(*blocked: str) -> dict[str, Any]:
    return {
        "network": "filtered",
        "networkFilter": {"whitelist": [".*"], "blacklist": [*blocked, ".*"]},
        "logNetwork": True,
    }


@pytest.fixture(scope="module")
def filtering(serve: Serve) -> Server:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    return serve(FILTERED)


@pytest.fixture(scope="module")
def client(filtering: Server) -> Iterator[httpx.Client]:
    with filtering.client() as made:
        yield made


def _outlets(server: Server) -> Path:
    (found,) = Path("/run").glob(f"isol8-{server.pid}-*")
    return found


def test_a_program_cannot_change_its_way_out(client: httpx.Client) -> None:
    result = execute(client, ASK + CHANGE, options=options())
    said = result["stdout"].splitlines()
    assert "done" not in said[0], result
    assert said[1:] == ["Read-only file system", "['out'] 403"], result
    assert [(each["host"], each["action"]) for each in result["networkLogs"]] == [("one.example", "BLOCK")]


def test_without_a_filtered_network_there_is_nothing(client: httpx.Client) -> None:
    code = "import os\nprint(os.listdir('/run/isol8'))\nsocket.create_connection(('127.0.0.1', 3128))"
    result = execute(client, ASK + code)
    assert result["stdout"] == "[]\n"
    assert "Connection refused" in result["stderr"]


def test_each_has_its_own(client: httpx.Client, filtering: Server) -> None:
    """Two at once: what goes through each is judged by its own rules, and in its own log."""
    ask = "print(ask(socket.create_connection(('127.0.0.1', 3128)), '{0}.example'), ask(outside(), '{0}.example'))"
    for name in ("one", "two"):
        execute(client, "1", sessionId=name, options=options())
    # One of an execution before may still be there, since its container is removed behind the answer.
    machine.until(lambda: len(list(_outlets(filtering).glob("*/out"))) == 2, "one for each")
    for name in ("one", "two"):
        result = execute(client, ASK + ask.format(name), sessionId=name, options=options(rf"{name}\.example"))
        assert result["stdout"] == "403 403\n"
        assert {each["host"] for each in result["networkLogs"]} == {f"{name}.example"}
        client.delete(f"/session/{name}")


def test_nobody_else_of_this_machine_has_any(filtering: Server) -> None:
    found = _outlets(filtering).stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o700)


def test_descriptors_are_not_taken(client: httpx.Client, filtering: Server) -> None:
    (proxy,) = {pid for pid in machine.proxies(filtering.pid) if machine.parent(pid) == filtering.pid}
    assert execute(client, ASK + PASS, options=options())["stdout"] == "403 " * 20
    assert not [name for name in machine.descriptors(proxy) if "main.py" in name]


def test_a_program_that_takes_all_its_connections_harms_itself(client: httpx.Client, session: str) -> None:
    flooded = execute(client, ASK + FLOOD, sessionId=session, options=options())
    assert flooded["stdout"] == "True\n", flooded
    ask = ASK + "print(ask(outside(), 'one.example'))"
    assert execute(client, ask, options=options())["stdout"] == "403\n"
    client.delete(f"/session/{session}")


def test_sessions_leave_no_directory(client: httpx.Client, filtering: Server) -> None:
    machine.until(lambda: len(os.listdir(_outlets(filtering))) == POOL["python"], "those of the warm pool alone")


def test_a_daemon_that_shares_no_files(serve: Serve, tmp_path: Path) -> None:
    """Where a filtered network is promised the server does not start; else it does, and can install no packages."""
    environment = {
        "ISOL8_PORT": "0",
        "ISOL8_API_KEY": "key",
        "ISOL8_ENGINE": "docker",
        "ISOL8_POLICY_NETWORKS": "none,filtered",
    }
    command = [*ELSEWHERE, sys.executable, "-m", "isol8", "serve"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | environment, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert "the daemon shares no files with this machine" in done.stderr
    assert "Traceback" not in done.stderr
    running = serve({"pool": POOL}, wrapper=ELSEWHERE)
    with running.client() as client:
        assert execute(client, "print(1)")["stdout"] == "1\n"
        refused(client, 403, {"request": {"code": "1", "runtime": "python"}, "options": options()})
