"""The processes of an ordinary user's server: who may speak to them, what they may do, and that they may die."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from isol8.kernel import landlock
from tests.ordinary.conftest import starting
from tests.support import machine
from tests.support.calls import body, execute, parse_events, stdout
from tests.support.ordinary import FIRST_ID, PYTHON, UID, Ordinary, delegated_groups
from tests.support.server import Server, serving, start

# What the API process does before it serves, and then what an attacker in it would try.
GIVE_UP = """
import os, signal
from pathlib import Path
home = Path(os.environ["HOME"])
(home / "secret").write_text("of the user")
from isol8.app import _readable
from isol8.kernel.confinement import give_up_rights
give_up_rights(65534, _readable())
def attempt(name, work):
    try: work(); print(name, "done")
    except PermissionError: print(name, "refused")
    except OSError as error: print(name, error.strerror)
attempt("read", lambda: (home / "secret").read_text())
attempt("list", lambda: os.listdir(home))
attempt("write", lambda: (home / "new").write_text(""))
attempt("tmp", lambda: Path("/tmp/of-the-API-process").write_text(""))
attempt("trace", lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("run", lambda: os.execv("/bin/true", ["true"]))
attempt("own", lambda: Path("/proc/self/environ").read_bytes())
print(open("/etc/passwd").readline().split(":")[0])
"""


def _supervisor(server: Server) -> int:
    children = {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}
    (found,) = {pid for pid in children if "native.supervisor" in machine.command(pid)}
    return found


def _api(server: Server) -> int:
    children = {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}
    (found,) = children - {_supervisor(server)}
    return found


def test_nothing_is_root(server: Server) -> None:
    for pid in server.processes():
        assert all(uid == UID or uid >= FIRST_ID for uid in machine.users(pid)), pid


def test_the_api_process_has_given_up_what_it_can(server: Server) -> None:
    api = _api(server)
    status = machine.status(api)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert os.stat(f"/proc/{api}/environ").st_uid == 0  # not dumpable: it is root's to read
    assert os.readlink(f"/proc/{api}/ns/user") != os.readlink(f"/proc/{_supervisor(server)}/ns/user")


def test_what_the_api_process_can_no_longer_do(user_kind: str, tmp_path: Path) -> None:
    done = Ordinary(tmp_path, user_kind == "equipped").run(code=GIVE_UP)
    assert done.stderr == ""
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    refused = {"read", "list", "write", "tmp", "trace", "run", "own"}
    assert {name for name in refused if answers[name] != "refused"} == set(), answers
    if landlock.abi() >= 6:
        assert answers["signal"] == "refused"
    assert done.stdout.splitlines()[-1] == "root"
    assert not os.path.exists("/tmp/of-the-API-process")


def test_other_users_are_turned_away(server: Server) -> None:
    """In a user namespace everybody else has one and the same id, and it must not be the client's."""
    connect = (
        "import socket, sys\n"
        "probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); probe.connect('\\0' + sys.argv[1])\n"
        "try:\n"
        '    probe.send(b\'{"id": 1, "op": "ready", "sandbox": ""}\'); print(probe.recv(100))\n'
        "except OSError: print(b'')"
    )
    name = f"isol8-supervisor-{server.pid}-1"
    for user in ("61999", "65534"):
        drop = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        done = subprocess.run([*drop, PYTHON, "-I", "-c", connect, name], capture_output=True, text=True, check=True)
        assert done.stdout == "b''\n", done
    assert "a process of user 65534 was turned away" in server.log_text()


def test_killing_the_server_leaves_no_process(user_kind: str, tmp_path: Path) -> None:
    """SIGKILL gives the server no chance to clean up; the next one, started in the same cgroups, clears what stays."""
    config = {"policy": {"isolation": "relaxed" if user_kind == "bare" else "strict"}}
    with delegated_groups() as delegated:
        groups = delegated if user_kind == "equipped" else ()
        server = start(tmp_path / "first", config, wrapper=Ordinary(tmp_path / "first", bool(groups), groups).wrapper())
        with server.client() as client:
            execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
            code = "print('on', flush=True)\nimport time\ntime.sleep(3600)"
            with client.stream("POST", "/execute/stream", json=body(code, timeoutMs=600_000)) as answer:
                received = parse_events(answer.iter_lines())  # kept: letting go of it hangs up
                next(received)
                assert len(server.processes()) > 3
                server.process.kill()
                server.process.wait()
        machine.until(lambda: not server.processes(), "no process is left")
        wrapper = Ordinary(tmp_path / "second", bool(groups), groups).wrapper()
        with serving(tmp_path / "second", config, wrapper=wrapper) as second, second.client() as client:
            assert machine.cgroups(server.pid) == []
            assert stdout(client, "print('on')") == "on\n"


def test_a_killed_supervisor_comes_back(user_kind: str, tmp_path: Path) -> None:
    with starting(user_kind, lambda: tmp_path) as begin:
        running = begin()
        with running.client() as client:
            execute(client, "setsid sleep 3600 & echo x", "bash", sessionId="left")
            before = running.processes() - {running.pid, _api(running)}
            os.kill(_supervisor(running), signal.SIGKILL)
            machine.until(lambda: not machine.alive(before), "all that it had is gone")
            machine.until(lambda: client.post("/execute", json=body("print(1)")).status_code == 200, "an answer")
