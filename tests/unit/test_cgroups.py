"""Finding the cgroup hierarchy in the mount tables of all three kinds of machine."""

from pathlib import Path

import pytest

from isol8.kernel.cgroups import CgroupsUnavailable, detect


def write_table(path: Path, *lines: str) -> str:
    table = path / "mounts"
    table.write_text("".join(f"{line} rw 0 0\n" for line in lines))
    return str(table)


def unified(path: Path, controllers: str) -> str:
    (path / "unified").mkdir()
    (path / "unified" / "cgroup.controllers").write_text(controllers)
    return f"cgroup2 {path}/unified cgroup2"


V1 = [f"cgroup /sys/fs/cgroup/{name} cgroup rw,{name}" for name in ("cpu", "cpuacct", "memory", "pids", "freezer")]


def test_v2(tmp_path: Path) -> None:
    table = write_table(tmp_path, "proc /proc proc", unified(tmp_path, "cpuset cpu io memory pids\n"))
    found = detect(table)
    assert found.version == 2
    assert found.roots == [f"{tmp_path}/unified"]


def test_v1_with_shared_directory(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        "cgroup /cg/cpu,cpuacct cgroup rw,cpu,cpuacct",
        "cgroup /cg/memory cgroup rw,memory",
        "cgroup /cg/pids cgroup rw,pids",
    )
    found = detect(table)
    assert found.version == 1
    assert found.roots == ["/cg/memory", "/cg/cpu,cpuacct", "/cg/pids"]


def test_hybrid_uses_v1_where_v2_has_no_controllers(tmp_path: Path) -> None:
    found = detect(write_table(tmp_path, unified(tmp_path, "\n"), *V1))
    assert found.version == 1
    assert found.mounts["memory"] == "/sys/fs/cgroup/memory"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CgroupsUnavailable, match="memory, pids"):
        detect(write_table(tmp_path, *V1[:2]))
