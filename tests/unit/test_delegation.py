"""Finding the cgroup that an ordinary user was given, in the tables of all kinds of machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from isol8.kernel.delegation import find

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")


def _table(path: Path, lines: Iterable[str]) -> str:
    file = path / "mountinfo"
    file.write_text("".join(f"30 20 0:30 {line}\n" for line in lines))
    return str(file)


def _membership(path: Path, *lines: str) -> str:
    file = path / "membership"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def _group(path: Path, controllers: str | None = None) -> Path:
    path.mkdir(parents=True)
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (path / name).touch()
    if controllers is not None:
        (path / "cgroup.controllers").write_text(controllers)
    return path


def test_v2_below_the_mount(tmp_path: Path) -> None:
    own = _group(tmp_path / "cg" / "user.slice" / "run-1.scope", "cpuset cpu memory pids\n")
    table = _table(tmp_path, [f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw"])
    found = find(table, _membership(tmp_path, "0::/user.slice/run-1.scope"))
    assert (found.version, found.roots) == (2, [str(own)])
    assert set(found.mounts) == set(CONTROLLERS)


def test_v2_of_a_container(tmp_path: Path) -> None:
    """Without a cgroup namespace the mount shows a part of the machine's tree, and the path is the machine's."""
    own = _group(tmp_path / "cg" / "inner", "memory pids\n")
    table = _table(tmp_path, [f"/docker/1234 {tmp_path}/cg rw - cgroup2 cgroup2 rw"])
    found = find(table, _membership(tmp_path, "0::/docker/1234/inner"))
    assert found.mounts == {"memory": str(own), "pids": str(own)}
    assert found.absent == f"{own} is delegated with memory, pids"


def test_what_a_mount_does_not_show_is_not_used(tmp_path: Path) -> None:
    _group(tmp_path / "cg", "memory pids\n")
    table = _table(tmp_path, [f"/docker/1234 {tmp_path}/cg rw - cgroup2 cgroup2 rw"])
    assert find(table, _membership(tmp_path, "0::/system.slice/other")).mounts == {}


def test_v2_that_is_somebody_elses(tmp_path: Path) -> None:
    own = _group(tmp_path / "cg" / "session-1.scope", "memory pids\n")
    (own / "cgroup.subtree_control").unlink()  # to root alone, one that is not there is as closed as another
    found = find(
        _table(tmp_path, [f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw"]), _membership(tmp_path, "0::/session-1.scope")
    )
    assert found.mounts == {}
    assert found.absent == f"{own} is not delegated to this user"


def test_hybrid_uses_version_1_where_version_2_has_no_controllers(tmp_path: Path) -> None:
    own = {name: _group(tmp_path / name / "given") for name in CONTROLLERS if name != "cpu"}
    _group(tmp_path / "unified", "\n")
    (tmp_path / "cpu").mkdir()  # the server is in the root group there, which has no file of the name
    lines = [f"/ {tmp_path}/{name} rw - cgroup cgroup rw,{name}" for name in CONTROLLERS]
    table = _table(tmp_path, [*lines, f"/ {tmp_path}/unified rw - cgroup2 cgroup2 rw"])
    groups = [f"{number}:{name}:/given" for number, name in enumerate(CONTROLLERS, 1) if name != "cpu"]
    found = find(table, _membership(tmp_path, *groups, "5:cpu:/", "0::/"))
    assert found.version == 1
    assert found.mounts == {name: str(path) for name, path in own.items()}


def test_v2_in_the_group_of_a_server_that_was_killed(tmp_path: Path) -> None:
    """The shell that it was started from is still where that server had put it."""
    given = _group(tmp_path / "cg" / "run-1.scope", "memory pids\n")
    _group(given / "server-isol8-1-2-3", "memory pids\n")
    table = _table(tmp_path, [f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw"])
    found = find(table, _membership(tmp_path, "0::/run-1.scope/server-isol8-1-2-3"))
    assert found.roots == [str(given)]
