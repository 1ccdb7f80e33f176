"""The cgroups that this process's user may use. For root they are the machine's, or, in a container with a cgroup
namespace, the container's. An ordinary user was given one: that in which the server was started, where the user may
write to it.

On version 1 sandboxes' groups are simply made below it. On version 2 a group with processes in it cannot give
controllers to groups below it, and a process moves only between groups whose common parent its user may write to: so
all processes of the group move into a group beside the sandboxes', and back at the end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from isol8.kernel import cgroups
from isol8.kernel.cgroups import CONTROLLERS, Hierarchy, server_group

_LOG = logging.getLogger("isol8.cgroups")
_PROCESSES = "cgroup.procs"
_SWITCH = "cgroup.subtree_control"
_ROUNDS = 100
_PREFIX = "server-"
_OURS = f"{_PREFIX}isol8-"


@contextlib.contextmanager
def allotted(owner: int) -> Iterator[Hierarchy]:
    """The controllers that this process's user has, ready for groups of sandboxes while the block lasts. Perhaps none:
    `absent` says why. `owner` is the server's main process, which must be in the block."""
    found = cgroups.find() if os.geteuid() == 0 else find()
    if found.version == 1 or not found.mounts or _is_root_group(found.roots[0]):
        yield found
        return
    (top,) = found.roots
    try:
        place = _settle(found, top, owner)
    except OSError as error:
        yield Hierarchy(2, {}, f"{top} is delegated, but cannot be divided: {error}")
        return
    try:
        yield found
    finally:
        try:
            _return(found, top, place)
        except OSError as error:
            _LOG.warning("%s stays divided: %s", top, error)


def find(mount_table: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup") -> Hierarchy:
    """What the group of this process has, and lets this user do. Nothing is changed."""
    own = _own_groups(mount_table, membership)
    unified = own.get("")
    if unified is not None and os.path.basename(unified).startswith(_OURS):  # another server's, dead or alive
        unified = os.path.dirname(unified)
    second: list[str] = []
    if unified is not None:
        with contextlib.suppress(FileNotFoundError):  # something is mounted over it
            second = [name for name in Path(unified, "cgroup.controllers").read_text().split() if name in CONTROLLERS]
    if unified is not None and (second or not own.keys() & {"memory", "cpu", "pids"}):
        if not _writable(unified, (_PROCESSES, _SWITCH)):
            return Hierarchy(2, {}, f"{unified} is not delegated to this user")
        if "cpu" in second:
            second.append("cpuacct")
        present = ", ".join(name for name in second if name != "cpuacct") or "none of them"
        return Hierarchy(2, dict.fromkeys(second, unified), f"{unified} is delegated with {present}")
    mounts = {name: own[name] for name in CONTROLLERS if name in own and _writable(own[name], (_PROCESSES,))}
    return Hierarchy(1, mounts, "the group that the server runs in is not this user's")


def _own_groups(mount_table: str, membership: str) -> dict[str, str]:
    """The directory of this process's group, by controller; "" is the unified hierarchy."""
    paths: dict[str, str] = {}
    with open(membership) as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            paths |= dict.fromkeys(names.split(","), path)
    found: dict[str, str] = {}
    with open(mount_table) as file:
        for line in file:
            mount, _, system = line.partition(" - ")
            root, target = mount.split()[3:5]
            kind, _, options = system.split()[:3]
            shown = {"cgroup2": {""}, "cgroup": set(options.split(","))}.get(kind, set())
            for controller in shown & paths.keys():
                relative = os.path.relpath(paths[controller], root)
                if not relative.startswith(".."):  # else it is outside what this mount shows
                    found.setdefault(controller, os.path.normpath(f"{target}/{relative}"))
    return found


def _is_root_group(directory: str) -> bool:
    """Whether this is the machine's topmost group, the one that may have processes and pass on controllers."""
    return not os.path.exists(f"{directory}/cgroup.type")


def _writable(directory: str, files: tuple[str, ...]) -> bool:
    return all(os.access(path, os.W_OK) for path in (directory, *(f"{directory}/{name}" for name in files)))


def _settle(hierarchy: Hierarchy, top: str, owner: int) -> str:
    """Make a group for the server's own processes and move all of `top` there; its directory. Raises OSError.

    What a server that was killed has left in its own such group (the shell that it was started from, perhaps this very
    process) comes along. It is never swept as sandboxes are.
    """
    (sandboxes,) = server_group(hierarchy, owner).directories
    place = f"{top}/{_PREFIX}{os.path.basename(sandboxes)}"
    os.mkdir(place, 0o755)
    try:
        Path(place, _PROCESSES).write_text(str(owner))
        _move_all(top, place)
        for dead in cgroups.stale_directories(hierarchy, _OURS):
            _move_all(dead, place)
            os.rmdir(dead)
    except OSError:
        with contextlib.suppress(OSError):  # where it cannot be undone, a later start sees to it
            _move_all(place, top)
            os.rmdir(place)
        raise
    return place


def _return(hierarchy: Hierarchy, top: str, place: str) -> None:
    """As it was before `_settle`. Raises OSError."""
    Path(top, _SWITCH).write_text(" ".join(f"-{name}" for name in hierarchy.mounts if name != "cpuacct"))
    _move_all(place, top)
    os.rmdir(place)


def _move_all(source: str, target: str) -> None:
    """Move every process; those that are forked meanwhile too. Raises OSError."""
    for _ in range(_ROUNDS):
        pids = Path(source, _PROCESSES).read_text().split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                Path(target, _PROCESSES).write_text(pid)
    raise OSError(errno.EBUSY, f"{source} does not become empty")
