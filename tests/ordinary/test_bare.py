"""An ordinary user with neither user ids nor cgroups: what is not enforced is said, and strict does not start."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve, _require_root
from tests.support import machine
from tests.support.calls import body, execute, refusal, stdout
from tests.support.ordinary import EXTRA_GROUP, NAME, UID, Ordinary, delegated_groups
from tests.support.server import Server

GROUPS = ["memory-limit", "processor-limit", "process-limit", "no-swap"]
CAP_SYS_RESOURCE = 24
RELAXED = {"policy": {"isolation": "relaxed"}}
bare_only = pytest.mark.parametrize("user_kind", ["bare"], indirect=True, scope="session")


@pytest.fixture
def user(tmp_path: Path) -> Callable[..., Ordinary]:
    """Makes ordinary users: `user(ids=…, groups=…, handicaps=…)`."""
    _require_root()

    def make(ids: bool = False, groups: tuple[str, ...] = (), handicaps: tuple[str, ...] = ()) -> Ordinary:
        return Ordinary(tmp_path, ids, groups, handicaps=handicaps)

    return make


def _missing(user: Ordinary, configured: Mapping[str, object] | None = None) -> dict[str, dict[str, str]]:
    """What `isol8 doctor` says is not enforced and must be, by name."""
    (user.directory / "doctor.json").write_text(json.dumps(configured or {}))
    done = user.run("doctor", "--json", "--config", str(user.directory / "doctor.json"))
    report = json.loads(done.stdout)
    found = {each["name"]: each for each in report["layers"] if not each["enforced"] and each["need"] != "extra"}
    assert all(each["detail"] and each["remedy"] for each in found.values())
    assert report["starts"] is (not found or bool(configured))
    return found


def test_doctor_names_what_is_missing(user: Callable[..., Ordinary]) -> None:
    found = _missing(user())
    assert sorted(found) == sorted([*GROUPS, "own-user"])
    assert f"every sandbox runs as {NAME}" in found["own-user"]["detail"]
    assert "usermod --add-subuids" in found["own-user"]["remedy"]
    assert "isol8-tester" in found["memory-limit"]["remedy"] or "Delegate=yes" in found["memory-limit"]["remedy"]
    assert _missing(user(), RELAXED).keys() == found.keys()


def test_doctor_with_ids_alone(user: Callable[..., Ordinary]) -> None:
    assert sorted(_missing(user(ids=True))) == sorted(GROUPS)


def test_doctor_with_cgroups_alone(user: Callable[..., Ordinary]) -> None:
    with delegated_groups() as groups:
        assert sorted(_missing(user(groups=groups))) == ["own-user"]


def test_doctor_where_a_mapping_is_refused(user: Callable[..., Ordinary]) -> None:
    """The ids in the file are one thing, and what newuidmap says another."""
    with_ids = user(ids=True)
    code = (
        "import isol8.engines.native.unprivileged as module\n"
        "module._largest = lambda *_: (500_000, 65_536)\n"
        "print(module.take_standing().problems['own-user'])"
    )
    done = with_ids.run(code=code)
    assert done.returncode == 0, done.stderr
    assert "newuidmap failed: " in done.stdout
    assert "not allowed" in done.stdout


def test_doctor_where_user_namespaces_are_refused(user: Callable[..., Ordinary]) -> None:
    found = _missing(user(handicaps=("no user namespace",)))
    assert found["user-namespace"]["detail"] == "unshare: Operation not permitted"
    assert found["mount-namespace"]["detail"] == "there is no user namespace"


def test_doctor_where_proc_is_covered(user: Callable[..., Ordinary]) -> None:
    """As container runtimes do. The kernel then mounts no other."""
    found = _missing(user(ids=True, handicaps=("masked /proc",)))
    assert "Operation not permitted" in found["own-proc"]["detail"]
    assert "/proc" in found["own-proc"]["remedy"]


def test_the_table_is_for_people_too(user: Callable[..., Ordinary]) -> None:
    done = user().run("doctor")
    assert done.returncode == 1
    assert "MISSING   own-user" in done.stdout
    assert "A server would not start here: 5 of" in done.stdout


def test_strict_refuses_to_start(user: Callable[..., Ordinary]) -> None:
    done = user().run("serve")
    assert done.returncode != 0
    assert "listens on" not in done.stdout
    for name in ("own-user", *GROUPS):
        assert f"{name} cannot be enforced" in done.stderr
    assert "what to do" in done.stderr
    assert "ISOL8_POLICY_ISOLATION=relaxed" in done.stderr
    assert "root" in done.stderr or "administrator" in done.stderr


def test_relaxed_does_not_go_without_what_makes_a_sandbox(user: Callable[..., Ordinary]) -> None:
    handicapped = user(handicaps=("no user namespace",))
    (handicapped.directory / "config.json").write_text(json.dumps(RELAXED))
    done = handicapped.run("serve", "--config", str(handicapped.directory / "config.json"))
    assert done.returncode != 0
    assert "user-namespace cannot be enforced" in done.stderr


@bare_only
def test_relaxed_says_so_at_every_start(server: Server) -> None:
    for name in ("own-user", "own-counts", *GROUPS):
        assert f"{name} cannot be enforced" in server.log_text()


@bare_only
def test_sandboxes_are_in_user_namespaces_of_their_own(server: Server, client: httpx.Client) -> None:
    """Outside they are the server's user, which is reported; but each in a namespace of its own."""
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    execute(client, f"sleep {mark} & echo x", "bash", sessionId="kept")
    try:
        (pid,) = machine.until(lambda: machine.running(mark), "it runs")
        assert pid in server.processes()
        fields = machine.status(pid)
        assert set(fields["Uid"].split()) == {str(UID)}
        assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        supervisor = machine.parent(_first_of(pid))
        assert supervisor is not None
        namespaces = {os.readlink(f"/proc/{each}/ns/user") for each in (pid, supervisor, server.pid, os.getpid())}
        assert len(namespaces) == 3  # the last two are the machine's
    finally:
        client.delete("/session/kept")


def _first_of(pid: int) -> int:
    """Process 1 of the pid namespace that a process is in."""
    above, namespace = pid, os.readlink(f"/proc/{pid}/ns/pid")
    while os.readlink(f"/proc/{above}/ns/pid") == namespace:
        pid, above = above, machine.parent(above) or 0
    return pid


@bare_only
def test_groups_of_the_user_stay(client: httpx.Client, server: Server) -> None:
    """Nobody may drop groups in such a namespace. It is part of what own-user says."""
    assert EXTRA_GROUP > 65_536 or stdout(client, "import os; print(len(os.getgroups()))") == "2\n"
    assert f"in {NAME}'s groups" in server.log_text()


@bare_only
def test_a_fork_bomb_is_bounded_for_each_sandbox(client: httpx.Client) -> None:
    code = (
        "import os, time\nmade = 0\n"
        "try:\n"
        "    while made < 1500:\n"
        "        if os.fork() == 0: time.sleep(3600); os._exit(0)\n"
        "        made += 1\n"
        "except BlockingIOError: pass\n"
        "print(made, flush=True)\ntime.sleep({})"
    )
    execute(client, "print('there')", sessionId="bomb")
    try:
        first = (
            "import subprocess, sys; open('bomb.py', 'w').write(CODE)\n"
            "subprocess.Popen([sys.executable, 'bomb.py'], stdout=open('said', 'w'))"
        ).replace("CODE", repr(code.format(3600)))
        stdout(client, first, sessionId="bomb")
        said = machine.until(
            lambda: client.get("/file", params={"sessionId": "bomb", "path": "/sandbox/said"}), "an answer"
        )
        machine.until(lambda: _said(client), "it has made all it can")
        assert said.status_code == 200
        assert 900 < _said(client) < 1024
        assert stdout(client, "import os; print(os.waitpid(os.fork() or os._exit(0), 0)[1])") == "0\n"
    finally:
        client.delete("/session/bomb")


def _said(client: httpx.Client) -> int:
    import base64

    answer = client.get("/file", params={"sessionId": "bomb", "path": "/sandbox/said"})
    return int(base64.b64decode(answer.json()["content"]).strip() or 0)


@bare_only
def test_files_are_bounded_in_number(client: httpx.Client) -> None:
    touch = "import os\nfor n in range(1_000_000): os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))"
    result = execute(client, touch)
    assert "No space left on device" in result["stderr"]


@bare_only
def test_the_machines_network_is_refused(serve: Serve) -> None:
    """With the user's own id, a program would pass for that user with all that listens there."""
    running = serve({"policy": {"networks": ["none", "host"]}})
    with running.client() as client:
        answer = client.post("/execute", json=body("print(1)", options={"network": "host"}))
        refusal(answer, 500, "user ids")
        assert stdout(client, "print(1)") == "1\n"


@bare_only
def test_a_score_that_is_already_high(serve: Serve) -> None:
    """As a desktop's session starts its programs: nobody but root may lower it."""
    running = serve({}, oom_score=500)
    with running.client() as client:
        printed = stdout(client, "print(open('/proc/self/oom_score_adj').read(), end='')")
        # Where root itself may not, as on some virtual machines, it was put up in a way that anybody may undo.
        assert printed == ("500\n" if _root_has(CAP_SYS_RESOURCE) else "300\n")


def _root_has(capability: int) -> bool:
    """Whether this process, root's, has a capability."""
    return bool(int(machine.status("self")["CapEff"], 16) >> capability & 1)
