"""Becomes an ordinary user and then the command behind it: `become_user.py SPEC COMMAND…`, as root, in a mount
namespace of its own (see `ordinary.py`).

The user exists in this mount namespace alone, with files of its own for /etc/passwd and the like, and sees what it
needs even where a parent directory is root's alone. Standard library only: it runs under the machine's own Python.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
import sys
from pathlib import Path

MS_BIND, MS_REC = 4096, 16384
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def closed_parent(path: str) -> str | None:
    """The topmost directory above `path` that an ordinary user cannot go through."""
    for parent in reversed(Path(path).parents):
        if not os.stat(parent).st_mode & stat.S_IXOTH:
            return str(parent)
    return None


def reveal(paths: list[str]) -> None:
    """Put a directory that is open over each closed one, with what is wanted in it."""
    closed: dict[str, dict[str, int]] = {}
    for path in paths:
        parent = closed_parent(path)
        if parent:
            closed.setdefault(parent, {})[path] = os.open(path, os.O_PATH)
    for parent, wanted in closed.items():
        mount("none", parent, "tmpfs", options="mode=755")
        for path, descriptor in sorted(wanted.items()):
            if not os.path.exists(path):
                os.makedirs(path)
                mount(f"/proc/self/fd/{descriptor}", path, flags=MS_BIND | MS_REC)
            os.close(descriptor)


def enter(group: Path) -> None:
    """Enter a cgroup, or the one below it where a killed server has left whoever it was started by."""
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        (place,) = group.glob("server-isol8-*")
        (place / "cgroup.procs").write_text(str(os.getpid()))


def main() -> None:
    spec = json.loads(sys.argv[1])
    for group in spec["groups"]:
        enter(Path(group))
    for target, source in spec["files"].items():
        mount(source, target, flags=MS_BIND)
    reveal(spec["reveal"])
    if "masked /proc" in spec["handicaps"]:
        mount("none", "/proc/irq", "tmpfs")
    if "no user namespace" in spec["handicaps"]:  # the kernel gives none to whoever is not at the root of its mounts
        mount("/", "/mnt", flags=MS_BIND | MS_REC)
        os.chroot("/mnt")
    if spec["oom_score"]:
        Path("/proc/self/oom_score_adj").write_text(str(spec["oom_score"]))
    temporary = os.environ.get("TMPDIR")
    if temporary:
        os.chown(temporary, spec["uid"], spec["uid"])
    os.setgroups(spec["supplementary"])
    os.setresgid(spec["uid"], spec["uid"], spec["uid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    os.execvpe(sys.argv[2], sys.argv[2:], os.environ | spec["environment"])


main()
