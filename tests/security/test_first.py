"""Process 1 made by a table of system calls is in nothing weaker than one made in Python: the kernel says so."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from isol8.kernel.syscalls import MACHINE
from tests.conftest import Serve
from tests.security.test_meta import MEANS, NO_TABLE, POOL, Hole, changed_package
from tests.support import machine
from tests.support.calls import execute
from tests.support.server import Server

pytestmark = [pytest.mark.cgroup, pytest.mark.skipif(MACHINE != "x86_64", reason="there is no other table")]
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
STATUS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
    "Seccomp_filters", "Umask", "TracerPid", "Threads", "NSpid", "SigBlk", "SigIgn",
)  # fmt: skip
ONE_SANDBOX = {**POOL, "bash": 0}


def _sandbox(server: Server) -> tuple[int, int]:
    """Process 1 and the worker of the one sandbox that waits."""

    def find() -> tuple[int, int] | None:
        found: dict[str, int] = {}
        for pid in machine.descendants(server.pid):
            number = machine.status(pid).get("NSpid")
            if number and machine.command(pid).startswith("python3\0/sandbox/main.py"):
                found[number.split()[-1]] = pid
        waits = {"1", "2"} <= found.keys() and machine.oom_score(found["2"]) == "300"
        return (found["1"], found["2"]) if waits else None

    return machine.until(find, "a sandbox that waits")


def _mounts(pid: int) -> list[str]:
    """Without the numbers of mounts and devices."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return sorted(" ".join(line.split()[3:]) for line in lines)


def _described(pid: int, number: str) -> dict[str, Any]:
    """All that says what a process may do."""
    status = machine.status(pid)
    proc = f"/proc/{pid}"
    opened = [re.sub(r"\d+", "N", os.readlink(f"{proc}/fd/{name}")) for name in os.listdir(f"{proc}/fd")]
    found: dict[str, Any] = {name: status[name].split()[-1:] for name in ("NSpid",)}
    found |= {name: status[name] for name in STATUS if name in status and name != "NSpid"}
    found["namespaces"] = {
        name: os.readlink(f"{proc}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES
    }
    found["mounts"] = _mounts(pid)
    found["groups"] = re.sub(r"/[0-9a-f]{8,}|-\d+", "/N", Path(f"{proc}/cgroup").read_text())
    found["oom score"] = Path(f"{proc}/oom_score_adj").read_text()
    found["limits"] = Path(f"{proc}/limits").read_text()
    found["directory"] = os.readlink(f"{proc}/cwd")
    found["session"] = os.getsid(pid) == pid
    found["owner of its files in /proc"] = os.stat(f"{proc}/environ").st_uid
    found["descriptors"] = sorted(opened)
    return {name: _anonymous(value, status["Uid"].split()[0]) for name, value in found.items()} | {"number": number}


def _anonymous(value: Any, uid: str) -> Any:
    """Two sandboxes have two users."""
    if isinstance(value, list):
        return [_anonymous(each, uid) for each in value]
    if isinstance(value, dict):
        return value
    return str(value).replace(uid, "USER")


def _both(server: Server) -> tuple[dict[str, Any], dict[str, Any]]:
    first, worker = _sandbox(server)
    for name in NAMESPACES:
        assert os.readlink(f"/proc/{first}/ns/{name}") == os.readlink(f"/proc/{worker}/ns/{name}")
    return _described(first, "1"), _described(worker, "2")


def _in_python(serve: Serve, directory: Path) -> Server:
    source = changed_package(directory, Hole(MEANS, *NO_TABLE, lambda client: None, ""))
    return serve({"pool": ONE_SANDBOX}, environment={"PYTHONPATH": str(source)})


@pytest.fixture
def pair(serve: Serve, tmp_path: Path) -> tuple[Server, Server]:
    return serve({"pool": ONE_SANDBOX}), _in_python(serve, tmp_path)


def test_every_layer_is_there(pair: tuple[Server, Server]) -> None:
    by_table, in_python = (_both(server) for server in pair)
    # Process 1 is told of children by a descriptor, and not by a signal; the worker has its end of the stream until it
    # becomes a program, and what feeds that.
    assert (by_table[0].pop("SigBlk"), in_python[0].pop("SigBlk")) == ("0000000000010000", "0" * 16)
    assert by_table[0].pop("descriptors") == ["anon_inode:[signalfd]", *["pipe:[N]"] * 8, "socket:[N]"]
    assert by_table[1].pop("descriptors") == [*["pipe:[N]"] * 6, "socket:[N]"]
    for each in in_python:
        del each["descriptors"]
    for one, other in zip(by_table, in_python, strict=True):
        assert {name: (value, other[name]) for name, value in one.items() if value != other[name]} == {}
    # Not both without: what a sandbox must have is looked at by itself.
    for each in by_table:
        assert each["Uid"] == "USER\tUSER\tUSER\tUSER"
        assert (each["Groups"], each["NoNewPrivs"], each["Seccomp"], each["Seccomp_filters"]) == ("", "1", "2", "1")
        assert {each[name] for name in STATUS if name.startswith("Cap")} == {"0" * 16}
        assert each["namespaces"] == {name: name == "user" for name in NAMESPACES}
    assert by_table[0]["owner of its files in /proc"] == "0"


def test_it_is_the_table_that_is_looked_at(pair: tuple[Server, Server]) -> None:
    """One that ran Python has copied hundreds of pages."""
    by_table, in_python = (machine.faults(_sandbox(server)[0]) for server in pair)
    assert by_table * 3 < in_python


def test_what_the_runner_does_is_the_same(pair: tuple[Server, Server]) -> None:
    show = """
import os
found = sorted({(line.split()[1], *line.split()[5:]) for line in open("/proc/self/maps")})
print(os.getppid(), os.getpid(), found, os.listdir())
"""
    answers = []
    for server in pair:
        with server.client() as client:
            answers.append(execute(client, show)["stdout"])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("line", "instead", "sign"),
    [
        ('table.text("/sandbox")', 'table.text("/nowhere")', "FileNotFoundError: [Errno 2] chdir"),
        ('"unshare", namespaces.CLONE_NEWCGROUP', '"unshare", 1 << 62', "[Errno 22] unshare"),
        ('"landlock_restrict_self", _RULES, 0', '"landlock_restrict_self", 99, 0', "[Errno 9] landlock_restrict_self"),
        ("_SIGCHLD | _SET_CHILD", "_SIGCHLD | namespaces.CLONE_NEWPID", "PermissionError: [Errno 1] clone"),
    ],
)
def test_a_layer_that_fails_is_no_sandbox(serve: Serve, tmp_path: Path, line: str, instead: str, sign: str) -> None:
    """The process ends, the log says by which call, and there is no server: it looks at such a sandbox first."""
    hole = Hole("engines/native/first.py", line, instead, lambda client: None, "")
    source = changed_package(tmp_path, hole)
    with pytest.raises(AssertionError, match=re.escape(sign)):
        serve({"pool": ONE_SANDBOX}, environment={"PYTHONPATH": str(source)})
