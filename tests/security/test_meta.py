"""The suite can fail: a server that lacks one layer, made from a copy of the package with one line changed, is seen by
exactly the check that the other modules make of the whole server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import isol8
from tests.conftest import Serve
from tests.security import containment
from tests.security.conftest import Compiled

# A server sees most of these by itself, and would not start: each copy is blind to it as well.
SUPERVISOR = "engines/supervisor.py"
SIGHT, BLINDNESS = "    lacking = missing(", "    found = []\n    lacking = missing("
POOL = {"python": 1, "node": 0, "bash": 1, "bun": 0, "deno": 0}


@dataclass(frozen=True)
class Hole:
    """One line of the package, and what is there without the layer. `sign` is a part of what the check then says: that
    it is this layer which is missing, and not the sandbox that no longer works."""

    file: str
    line: str
    instead: str
    check: Callable[[httpx.Client], None]
    sign: str


ZYGOTE, SANDBOXES, CGROUPS = "engines/native/zygote.py", "engines/native/sandboxes.py", "kernel/cgroups.py"
FIRST, SURROUNDINGS = "engines/native/first.py", "engines/native/surroundings.py"
BECOMING = "engines/native/becoming.py"
# Two ways lead to process 1: a table of system calls, and Python. Each has a layer of its own to lose.
MEANS = "engines/native/means.py"
NO_TABLE = "self._table() if self.initial else None", "None"
HOLES = {
    "no user of its own": Hole(
        FIRST, "table.call(name, *(", 'table.call("getpid", *(', containment.no_privilege, r"assert 0 > 65536"
    ),
    "no user of its own, in Python": Hole(
        BECOMING,
        "privileges.drop_to(request.uid, request.uid, keep_groups=request.alone)",
        "pass",
        containment.no_privilege,
        r"assert 0 > 65536",
    ),
    "one user for all": Hole(
        SANDBOXES, "plain_message(uid,", "plain_message(1000000000,", containment.no_privilege, "1000000000"
    ),
    "one user for all, in Python": Hole(
        SANDBOXES, '("uid", str(uid).encode())', '("uid", b"1000000000")', containment.no_privilege, "1000000000"
    ),
    "no network namespace": Hole(
        SURROUNDINGS, " | namespaces.CLONE_NEWNET", "", containment.no_host_loopback, "'connected"
    ),
    "no network namespace, in Python": Hole(
        ZYGOTE, "else namespaces.CLONE_NEWNET", "else 0", containment.no_host_loopback, "'connected"
    ),
    # The table knows its worker by the number that it has there, and waits for ever without; see test_first.py.
    "no pid namespace, in Python": Hole(
        ZYGOTE, "namespaces.CLONE_NEWPID", "0", containment.no_host_processes, "PermissionError"
    ),
    "no ipc namespace": Hole(
        "kernel/namespaces.py",
        "CLONE_NEWNS | CLONE_NEWIPC",
        "CLONE_NEWNS",
        containment.no_shared_ipc,
        "True, True, True",
    ),
    "no process limit": Hole(CGROUPS, "limits.pids + 1)", '"max")', containment.bounded_processes, "200"),
    "no memory limit": Hole(
        CGROUPS,
        'limit_memory(self.paths["memory"], limits.memory_bytes)',
        "pass",
        containment.bounded_memory,
        "167772160",
    ),
    "no processor limit": Hole(
        CGROUPS,
        "self._limit_cpu(max(int(limits.cpus * _CPU_PERIOD_US), _MIN_QUOTA_US))",
        "self._limit_cpu(None)",
        containment.bounded_processor,
        "a tenth of a core",
    ),
    "no file system sizes": Hole(SANDBOXES, "if size != before", "if False", containment.bounded_disk, "9"),
    "a dumpable runner": Hole(
        FIRST, "set_dumpable(False)", "set_dumpable(True)", containment.runner_out_of_reach, "'environ'"
    ),
    "a dumpable runner, in Python": Hole(
        BECOMING, "set_dumpable(False)", "set_dumpable(True)", containment.runner_out_of_reach, "'environ'"
    ),
    "changeable limits of the runner": Hole(
        "kernel/seccomp_policy.py",
        "RUNNER_PID = 1",
        "RUNNER_PID = 1 << 30",
        containment.runner_out_of_reach,
        "['prlimit']",
    ),
    "nothing masked in proc": Hole(
        "engines/native/view.py", "in _existing(_PROC_MASKED)", "in ()", containment.masked_proc, "key-users"
    ),
    "a writable root": Hole(
        "engines/native/root.py", "mounts.bind_read_only(", "mounts.bind(", containment.read_only_root, "/usr"
    ),
    "files by any link": Hole(
        "runner/files.py",
        "status.st_dev not in _writable_devices()",
        "False",
        containment.links_lead_nowhere,
        "/etc/passwd",
    ),
}
FILTERS = {
    "by the table": Hole(
        FIRST, "_add(table, seccomp.call_to_load(", "str(seccomp.call_to_load(", containment.no_privilege, ""
    ),
    "in Python": Hole(BECOMING, "seccomp.load_filter(means.filter)", "pass", containment.no_privilege, ""),
}
IN_PYTHON = {(hole.file, hole.line) for name, hole in {**HOLES, **FILTERS}.items() if name.endswith("in Python")}
if os.path.exists("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes"):  # elsewhere it is memory like any other
    HOLES["no limit of socket buffers"] = Hole(
        CGROUPS,
        """write(f"{self.paths['memory']}/memory.kmem.tcp.limit_in_bytes", _SOCKET_BYTES)""",
        "pass",
        containment.bounded_socket_buffers,
        "<= 96",
    )


def _change(file: Path, line: str, instead: str) -> None:
    before = file.read_text()
    assert line in before, f"{line} is no longer in {file.name}"
    file.write_text(before.replace(line, instead))


def changed_package(directory: Path, hole: Hole) -> Path:
    """A copy of the package without one layer; the directory to import it from."""
    source = directory / "src"
    package = shutil.copytree(
        Path(isol8.__file__).parent, source / "isol8", ignore=shutil.ignore_patterns("__pycache__")
    )
    _change(package / SUPERVISOR, SIGHT, BLINDNESS)
    if (hole.file, hole.line) in IN_PYTHON:
        _change(package / MEANS, *NO_TABLE)
    _change(package / hole.file, hole.line, hole.instead)
    return source


def _without(serve: Serve, directory: Path, hole: Hole) -> httpx.Client:
    source = changed_package(directory, hole)
    running = serve({"pool": POOL}, environment={"PYTHONPATH": str(source)})
    return running.client()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.cgroup] if hole.file == CGROUPS else []) for name, hole in HOLES.items()],
)
def test_a_missing_layer_is_seen(serve: Serve, tmp_path: Path, name: str) -> None:
    hole = HOLES[name]
    with _without(serve, tmp_path, hole) as client, pytest.raises(AssertionError, match=re.escape(hole.sign)):
        hole.check(client)


@pytest.mark.parametrize("way", FILTERS)
def test_a_missing_filter_is_seen(serve: Serve, tmp_path: Path, compiled: Compiled, way: str) -> None:
    files = compiled("calls")
    sign = re.escape("('unshare', 'done')")
    with _without(serve, tmp_path, FILTERS[way]) as client, pytest.raises(AssertionError, match=sign):
        containment.refused_calls(client, files, "python")


@pytest.mark.cgroup
def test_a_copy_without_a_change_is_sound(serve: Serve, tmp_path: Path, compiled: Compiled) -> None:
    """What the above prove is the line, not the copy."""
    unchanged = Hole(ZYGOTE, "import gc", "import gc", containment.no_privilege, "")
    with _without(serve, tmp_path, unchanged) as client:
        for runtime in containment.CALLERS:
            containment.refused_calls(client, compiled("calls"), runtime)
        for check in {hole.check for hole in HOLES.values()}:
            check(client)
