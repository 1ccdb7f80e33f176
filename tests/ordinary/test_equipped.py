"""An ordinary user with user ids set aside and cgroups of its own has all that root's server has: it is strict."""

# ruff: noqa: F401
from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.contract.test_execute import test_peak_memory_grows_with_use, test_timestamp_duration_and_usage
from tests.contract.test_limits import (
    test_half_a_core,
    test_limits_of_one_request_are_not_those_of_the_next,
    test_memory,
    test_one_core_for_many_processes,
    test_processes,
)
from tests.contract.test_random_kills import test_any_part_may_die_at_any_moment
from tests.contract.test_sessions import (
    test_later_calls_may_change_limits,
    test_what_cannot_be_changed_is_a_409_that_says_so,
)
from tests.contract.test_surroundings import test_the_user
from tests.ordinary.conftest import starting
from tests.security.test_exhaustion import (
    test_disk,
    test_fork_bombs,
    test_memory_bombs,
    test_memory_limit,
    test_process_limit,
    test_processor,
    test_socket_buffers,
    test_trees_for_cleanup_to_choke_on,
)
from tests.security.test_host import test_no_privilege
from tests.security.test_neighbours import neighbours, test_users_differ
from tests.support import machine
from tests.support.calls import delete, execute, stdout
from tests.support.ordinary import FIRST_ID, IDS, UID, Ordinary, delegated_groups
from tests.support.server import Server, serving

pytestmark = pytest.mark.parametrize("user_kind", ["equipped"], indirect=True, scope="session")


def _users(server: Server) -> dict[str, set[int]]:
    """The users, outside, of each sandbox's processes."""
    found: dict[str, set[int]] = {}
    for group in machine.cgroups(server.pid):
        for pid in machine.members(group):
            if uids := machine.users(pid):
                found.setdefault(group.rpartition("/")[2], set()).update(uids)
    return found


def _settled(server: Server) -> list[int]:
    """The user of each sandbox, when none of them is being made: then it is still the server's."""

    def settled() -> list[int] | None:
        users = list(_users(server).values())
        ready = len(users) > 1 and all(len(mine) == 1 and UID not in mine for mine in users)
        return [uid for mine in users for uid in mine] if ready else None

    return machine.until(settled, lambda: f"one user for each: {_users(server)}")


def test_each_sandbox_is_another_user_outside(server: Server) -> None:
    users = _settled(server)
    assert len(users) == len(set(users))
    assert all(FIRST_ID <= uid < FIRST_ID + IDS for uid in users), users


def test_two_servers_of_one_user_share_no_ids(server: Server, user_kind: str, tmp_path: Path) -> None:
    with starting(user_kind, lambda: tmp_path) as start:
        ours, theirs = (set(_settled(each)) for each in (server, start()))
        assert not ours & theirs


@pytest.mark.cgroup
def test_doctor_finds_every_layer(user_kind: str, tmp_path: Path) -> None:
    with delegated_groups() as groups:
        done = Ordinary(tmp_path, True, groups).run("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["starts"] is True, done.stderr
    assert [layer["name"] for layer in report["layers"] if not layer["enforced"]] == ["own-counts"]
    assert done.returncode == int(not all(runtime["ready"] for runtime in report["runtimes"]))
    assert {"user-namespace", "own-user"} <= {layer["name"] for layer in report["layers"]}


def test_a_greedy_neighbour_leaves_the_others_some(client: httpx.Client) -> None:
    """The kernel counts inotify instances for the server's user too: one sandbox may have a share of them."""
    names = [f"greedy-{uuid.uuid4().hex}" for _ in range(2)]
    greedy = (
        "import ctypes, subprocess, sys\n"
        "code = '''import ctypes, time\nlibc = ctypes.CDLL(None); n = 0\n"
        "while libc.inotify_init1(0) >= 0: n += 1\n"
        "open('/sandbox/said', 'w').write(str(n)); time.sleep(600)'''\n"
        "subprocess.Popen([sys.executable, '-c', code]); print('started')"
    )
    count = "import ctypes\nlibc = ctypes.CDLL(None)\nprint(sum(libc.inotify_init1(0) >= 0 for _ in range(1000)))"
    try:
        stdout(client, greedy, sessionId=names[0])
        said = "import os; print(os.path.exists('/sandbox/said') and open('/sandbox/said').read() or '')"
        taken = machine.until(lambda: stdout(client, said, sessionId=names[0]).strip(), "it has taken all there is")
        assert stdout(client, count, sessionId=names[0]) == "0\n"
        assert stdout(client, count, sessionId=names[1]).strip() == taken
    finally:
        for name in names:
            delete(client, name)


@pytest.mark.cgroup
def test_the_machines_and_the_users_server_leave_each_other_alone(user_kind: str, tmp_path: Path) -> None:
    with serving(tmp_path / "root") as of_root, of_root.client() as first:
        execute(first, "echo kept > kept; setsid sleep 3600 & echo x", "bash", sessionId="same")
        with starting(user_kind, lambda: tmp_path / "user") as start:
            own = start()
            with own.client() as second:
                seen = stdout(second, "ls; echo mine > mine", "bash", sessionId="same")
                assert seen == "main.sh\n"
            before = machine.cgroups(own.pid)
            assert before
            assert not set(before) & set(machine.cgroups(of_root.pid))
        assert stdout(first, "cat kept; pgrep -c sleep", "bash", sessionId="same") == "kept\n1\n"


def test_the_machines_network_where_it_is_allowed(serve: Serve) -> None:
    """And sandboxes without it are where they were."""
    running = serve({"policy": {"networks": ["none", "host"]}})
    with socket.create_server(("127.0.0.1", 0)) as listener, running.client() as client:
        port = listener.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port})); print('there')"
        for _ in range(3):
            assert stdout(client, code, options={"network": "host"}) == "there\n"
            assert "ConnectionRefusedError" in execute(client, code)["stderr"]
