"""The native engine for an ordinary user: what stands in for root, and what then cannot be enforced.

The supervisor moves into a user namespace, where it is root over all that it makes, and goes on as it would as root.
There are two kinds, and `Standing.ids` tells them apart:

- A range of user ids is set aside for the user (/etc/subuid and /etc/subgid), and newuidmap and newgidmap,
  set-user-id programs of the machine, map it: sandboxes get a user id each, which inside is what root would give.
- There is none. The namespace has the user alone, and each sandbox gets a namespace inside it, again with that user
  alone: outside, all of them are the server's user. That is reported, as the layer own-user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isol8.engines.base import Need
from isol8.engines.layers import Description
from isol8.engines.native.layers import CGROUPS, LAYERS, PRIVILEGES
from isol8.engines.user_ids import FIRST, OF_THE_MACHINE, PROBE, IdRange
from isol8.kernel import namespaces, user_namespaces
from isol8.kernel.forked import attempt

_SET_ASIDE = ("/etc/subuid", "/etc/subgid")
_MAPPERS = ("newuidmap", "newgidmap")
_LEAST, _BLOCK, _MOST = 1024, 4096, 65_536
_TIMEOUT_S = 60.0
_NAMESPACES = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS
# What the kernel counts for whoever made a user namespace too, and how much of it one sandbox may have.
_COUNTED = {"max_inotify_instances": "max_user_instances", "max_inotify_watches": "max_user_watches"}
_SHARE = 16
_SWITCHES = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user/max_user_namespaces": ("0", "10000"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the user that the server runs as has for sandboxes: ids for their users (see `Means`), how the layers are
    described to that user, and what is known to be wrong with some before any is tried."""

    ids: IdRange | None
    layers: tuple[Description, ...]
    problems: Mapping[str, str]


def take_standing() -> Standing:
    """Find out what this process's user may do. For an ordinary user the process is in a user namespace afterwards,
    where it may make sandboxes; it must have one thread."""
    if os.geteuid() == 0:
        return Standing(OF_THE_MACHINE, LAYERS, {})
    name = _user_name()
    layers = _described(name)
    try:
        ids, reason = _enter(name)
    except OSError as error:
        missing = dict.fromkeys((each.name for each in layers), "there is no user namespace")
        return Standing(None, layers, missing | {"user-namespace": str(error.strerror)})
    problems = {"own-counts": _bound_counts()}
    if ids is None:
        problems["own-user"] = (
            f"{reason}: every sandbox runs as {name}, in {name}'s groups, and shares with {name}'s other programs what "
            "the kernel counts by user"
        )
    return Standing(ids, layers, problems)


def _user_name() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return f"user {os.geteuid()}"


def _enter(name: str) -> tuple[IdRange | None, str]:
    """Enter a user namespace; the ids for sandboxes, or why there are none. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    try:
        ids, maps = _range(name, user, group)
        attempt(partial(_enter_mapped, maps), _TIMEOUT_S)  # what has gone wrong half way cannot be mended
    except OSError as error:
        namespaces.unshare(_NAMESPACES)
        user_namespaces.map_alone(0, user, group)
        return None, str(error.strerror)
    _enter_mapped(maps)
    return ids, ""


def _range(name: str, user: int, group: int) -> tuple[IdRange, dict[str, list[str]]]:
    """The ids that are set aside, and what to tell newuidmap and newgidmap. Raises OSError when there are none."""
    absent = [program for program in _MAPPERS if shutil.which(program) is None]
    if absent:
        raise OSError(errno.ENOENT, f"there is no {' and no '.join(absent)} on this machine")
    users, groups = (_largest(file, name, user) for file in _SET_ASIDE)
    count = min(users[1], groups[1], _MOST)
    if count < _LEAST:
        raise OSError(errno.ENOENT, f"{name} has fewer than {_LEAST} ids in /etc/subuid or /etc/subgid")
    usable = count - 1  # the first one is PROBE
    block = min(_BLOCK, usable)
    ids = IdRange(FIRST, block, usable // block, f"isol8-user-ids-of-{users[0]}")
    return ids, {
        "newuidmap": ["0", str(user), "1", str(PROBE), str(users[0]), str(count)],
        "newgidmap": ["0", str(group), "1", str(PROBE), str(groups[0]), str(count)],
    }


def _largest(file: str, name: str, user: int) -> tuple[int, int]:
    """The largest range that is set aside for a user: (first, count)."""
    mine = [(first, count) for owner, first, count in _ranges_in(file) if owner in (name, str(user))]
    return max([(0, 0), *mine], key=lambda each: each[1])


def _ranges_in(file: str) -> Iterator[tuple[str, int, int]]:
    """subuid(5): lines of "name or id:first:count"."""
    with contextlib.suppress(FileNotFoundError), open(file) as lines:
        for line in lines:
            owner, first, count = [*line.strip().split(":"), "", ""][:3]
            if first.isdigit() and count.isdigit():
                yield owner, int(first), int(count)


def _enter_mapped(maps: dict[str, list[str]]) -> None:
    """Enter a user namespace whose ids the machine's programs map, from outside. Raises OSError."""
    reader, writer = os.pipe()
    here = os.getpid()

    def map_from_outside() -> None:
        os.close(writer)
        if os.read(reader, 1):  # else there is no namespace
            for program, arguments in maps.items():
                _map(program, here, arguments)

    def unshare_and_tell() -> None:
        os.close(reader)
        try:
            namespaces.unshare(_NAMESPACES)
            os.write(writer, b".")
        finally:
            os.close(writer)

    attempt(map_from_outside, _TIMEOUT_S, meanwhile=unshare_and_tell)


def _map(program: str, pid: int, arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            [program, str(pid), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, str(error)) from error
    if done.returncode:
        raise OSError(errno.EPERM, f"{program} failed: {' '.join(done.stderr.split())}")


def _bound_counts() -> str:
    """Leave each sandbox a share of what is counted for this user too; what that comes to."""
    bounds = []
    try:
        for bound, total in _COUNTED.items():
            share = max(1, int(Path("/proc/sys/fs/inotify", total).read_text()) // _SHARE)
            Path("/proc/sys/user", bound).write_text(str(share))
            bounds.append(str(share))
    except OSError as error:
        return f"sandboxes can use up this user's inotify instances and watches: {error}"
    return (
        f"sandboxes together can use up this user's inotify instances and watches (each may have {', '.join(bounds)})"
    )


def _described(name: str) -> tuple[Description, ...]:
    """The layers as an ordinary user sees them: with what that user can do, and with those that root has no need of."""
    rights, groups = _remedy_for_namespaces(), _remedy_for_groups(name)
    described = []
    for each in LAYERS:
        remedy = each.remedy.replace(PRIVILEGES, rights).replace(CGROUPS, groups)
        if each.name == "own-user":
            described.append(dataclasses.replace(each, need=Need.STRICT, remedy=_remedy_for_user_ids(name)))
        elif each.name == "no-swap":
            described.append(dataclasses.replace(each, remedy=f"{groups}; or {remedy}"))
        else:
            described.append(dataclasses.replace(each, remedy=remedy))
    stops = "having a right over the machine that the server's user has not"
    first = Description("user-namespace", Need.ALWAYS, stops, rights)
    stops = "using up what the kernel counts for the server's user"
    last = Description(
        "own-counts", Need.EXTRA, stops, "start the server as root, or raise fs.inotify.max_user_instances"
    )
    return (first, *described, last)


def _remedy_for_user_ids(name: str) -> str:
    taken = [first + count for file in _SET_ASIDE for _, first, count in _ranges_in(file)]
    first = max([100_000, *taken])
    ids = f"{first}-{first + _MOST - 1}"
    return (
        "have an administrator install newuidmap and newgidmap (Debian: apt-get install uidmap) and set ids aside: "
        f"usermod --add-subuids {ids} --add-subgids {ids} {name}"
    )


def _remedy_for_namespaces() -> str:
    """What is known to keep ordinary users from user namespaces, or from having rights in them."""
    found = []
    for name, (bad, good) in _SWITCHES.items():
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name).read_text().strip() == bad:
                found.append(f"sysctl -w {name.replace('/', '.')}={good}")
    allow = " and ".join(found) or "let ordinary users make user namespaces, with a /proc that nothing is mounted over"
    return f"{allow}; or start the server as root"


def _remedy_for_groups(name: str) -> str:
    if os.path.exists("/run/systemd/system") and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return (
            'start the server with "systemd-run --user --scope -p Delegate=yes", or as a service with Delegate=yes; '
            'for controllers that are not there, an administrator adds "Delegate=cpu memory pids" to user@.service'
        )
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(os.getegid()).gr_name
        give = f"-a {name}:{group} -t {name}:{group}"
        return (
            "have an administrator make a cgroup for this user, and start the server in it: "
            f'"cgcreate {give} -g memory,cpu,cpuacct,pids:isol8", then "cgexec -g memory,cpu,cpuacct,pids:isol8"'
        )
    return "have an administrator make a cgroup that this user may write to, and start the server in it"
