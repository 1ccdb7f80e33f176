"""Control groups: one interface over version 1, version 2 and hybrid machines.

A `Hierarchy` says where each controller is mounted and how its files are called; a `Group` is one directory
in every mounted hierarchy that isol8 uses (one on v2, one per controller on v1). Groups are made below a group of the
server's own, whose name says which process made it, so that a later start can tell what is stale.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection
from dataclasses import dataclass

from isol8.model import Limits, Usage

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
_ROOT_PREFIX = "isol8-"
_CPU_PERIOD_US = 100_000
_SOCKET_BYTES = 32 << 20
# Below this the kernel refuses a quota (kernel/sched/core.c, min_cfs_quota_period: 1 ms).
_MIN_QUOTA_US = 1_000


class CgroupsUnavailable(OSError):
    """This machine has no cgroup hierarchy that isol8 can use for one of its limits."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the controllers are. `mounts` has one entry per controller: the directory that groups are made in; on v2
    they are all the same. `absent` says what is the matter with those that have none."""

    version: int
    mounts: dict[str, str]
    absent: str = "no cgroup hierarchy of this machine has it"

    @property
    def roots(self) -> list[str]:
        """The distinct mount points, in a stable order."""
        return list(dict.fromkeys(self.mounts.values()))

    def only(self, controllers: Collection[str]) -> Hierarchy:
        """The same without the other controllers."""
        kept = {key: path for key, path in self.mounts.items() if key in controllers}
        return Hierarchy(self.version, kept, self.absent)


def detect(mount_table: str = "/proc/self/mounts") -> Hierarchy:
    """The hierarchy that has memory, cpu and pids: v2 if it has all of them, else v1 (hybrid machines too).

    Raises CgroupsUnavailable, naming what is missing.
    """
    found = find(mount_table)
    missing = [name for name in CONTROLLERS if name not in found.mounts]
    if missing:
        raise CgroupsUnavailable(f"no cgroup hierarchy on this machine has the controllers {', '.join(missing)}")
    return found


def find(mount_table: str = "/proc/self/mounts") -> Hierarchy:
    """Like `detect`, with the controllers there are: perhaps none."""
    found: dict[str, str] = {}
    unified = None
    with open(mount_table) as table:
        for line in table:
            _, target, kind, options = line.split(" ")[:4]
            if kind == "cgroup2" and unified is None:
                unified = target
            elif kind == "cgroup":
                for name in set(options.split(",")) & set(CONTROLLERS):
                    found.setdefault(name, target)
    second: set[str] = set()
    if unified is not None:
        with contextlib.suppress(FileNotFoundError), open(f"{unified}/cgroup.controllers") as file:  # hidden by a mount
            second = set(file.read().split()) & set(CONTROLLERS)
    if unified is not None and second and len(second) >= len(found.keys() - {"cpuacct"}):
        if "cpu" in second:
            second.add("cpuacct")  # the cpu controller of version 2 counts as well
        return Hierarchy(2, {name: unified for name in CONTROLLERS if name in second})
    return Hierarchy(1, {name: found[name] for name in CONTROLLERS if name in found})


def write(path: str, value: str | int) -> None:
    """Write a control file. Raises OSError, FileNotFoundError also when its group is just gone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    except OSError as error:
        raise _named(error, path) from error
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    """What is in a control file. Raises as `write` does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65536).decode()
    except OSError as error:
        raise _named(error, path) from error
    finally:
        os.close(descriptor)


def _named(error: OSError, path: str) -> OSError:
    """The error with the path, which a descriptor does not have. A group that was removed since the file was opened is
    not there like any other that is not."""
    number = errno.ENOENT if error.errno == errno.ENODEV else error.errno or errno.EIO
    return OSError(number, os.strerror(number), path)


def _field(text: str, name: str) -> int:
    """The number behind `name` in a flat keyed file such as memory.events."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _kept_bytes(path: str) -> int:
    """What a group of version 2 uses and could not give back: all but pages of files that can be read again."""
    statistics = read(f"{path}/memory.stat")
    given_back = sum(_field(statistics, name) for name in ("active_file", "inactive_file", "slab_reclaimable"))
    return int(read(f"{path}/memory.current")) - given_back


@dataclass(frozen=True, slots=True)
class Group:
    """One group; `paths` maps controllers to its directories."""

    version: int
    paths: dict[str, str]

    @property
    def directories(self) -> list[str]:
        """Its distinct directories."""
        return list(dict.fromkeys(self.paths.values()))

    def child(self, name: str) -> Group:
        """The group `name` below this one; it need not exist."""
        return Group(self.version, {key: f"{path}/{name}" for key, path in self.paths.items()})

    def create(self) -> None:
        """Make its directories. Raises OSError."""
        for path in self.directories:
            os.mkdir(path, 0o755)

    def remove(self) -> None:
        """Remove its directories; what is not there is fine. Raises OSError (EBUSY) while processes are in it."""
        for path in self.directories:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path)

    def entries(self) -> list[int]:
        """Open descriptors into which a process writes "0" to enter the group; the caller closes them."""
        return [os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in self.directories]

    def limit(self, limits: Limits) -> None:
        """Put limits on the group. Raises OSError: EBUSY when more memory is in use than the new limit."""
        if "pids" in self.paths:
            # The runner is a process of the sandbox too, and no business of the caller's.
            write(f"{self.paths['pids']}/pids.max", limits.pids + 1)
        if "memory" in self.paths:
            limit_memory = self._limit_memory_v2 if self.version == 2 else self._limit_memory_v1
            limit_memory(self.paths["memory"], limits.memory_bytes)
        if "cpu" in self.paths:
            self._limit_cpu(max(int(limits.cpus * _CPU_PERIOD_US), _MIN_QUOTA_US))

    def unleash(self) -> None:
        """Lift the limit of processor time: what is killed needs some to end. Raises OSError."""
        if "cpu" in self.paths:
            self._limit_cpu(None)

    def _limit_cpu(self, quota_us: int | None) -> None:
        path = self.paths["cpu"]
        if self.version == 2:
            write(f"{path}/cpu.max", f"{quota_us or 'max'} {_CPU_PERIOD_US}")
        else:
            write(f"{path}/cpu.cfs_quota_us", quota_us or -1)

    @staticmethod
    def _limit_memory_v2(path: str, size: int) -> None:
        """Version 1 refuses a limit that it cannot enforce by taking back pages of files. Version 2 would kill."""
        if int(read(f"{path}/memory.current")) > size and _kept_bytes(path) > size:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"{path}/memory.max")
        write(f"{path}/memory.max", size)

    @staticmethod
    def _limit_memory_v1(path: str, size: int) -> None:
        """Memory and memory+swap; the second may never be below the first, so the order depends on the direction. It is
        found out by trying: in a new group, which there is for every sandbox, both come down. Without swap accounting
        the second is not there."""
        memory, swap = f"{path}/memory.limit_in_bytes", f"{path}/memory.memsw.limit_in_bytes"
        try:
            write(memory, size)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            write(swap, size)
            write(memory, size)
            return
        with contextlib.suppress(FileNotFoundError):
            write(swap, size)

    def harden(self) -> None:
        """What never changes: no swap (v1 has that in its limits), and on v1 a bound on the buffers of TCP and UDP
        sockets, loopback's too: there they count as memory only once a limit of their own is set, and until then
        take from what the whole machine's network may use.

        memory.oom.group stays off: it would take the runner as well, and with it a session's files. Whoever asked
        for the execution sees the kill in `usage`, and ends the rest.
        """
        if "memory" not in self.paths:
            return
        with contextlib.suppress(FileNotFoundError):  # the kernel may be set up without either
            if self.version == 2:
                write(self.swap_file, 0)
            else:
                write(f"{self.paths['memory']}/memory.kmem.tcp.limit_in_bytes", _SOCKET_BYTES)

    @property
    def swap_file(self) -> str:
        """The file with which swap is limited. The kernel may be set up without it."""
        return f"{self.paths['memory']}/memory.{'swap.max' if self.version == 2 else 'memsw.limit_in_bytes'}"

    def usage(self) -> Usage:
        """What the group has consumed; 0 where nothing counts. Needs no privilege. Raises OSError when it is gone."""
        cpu_us = peak_bytes = kills = 0
        if "cpuacct" in self.paths:
            path = self.paths["cpuacct"]
            if self.version == 2:
                cpu_us = _field(read(f"{path}/cpu.stat"), "usage_usec")
            else:
                cpu_us = int(read(f"{path}/cpuacct.usage")) // 1000
        if "memory" in self.paths:
            peak_bytes, kills = self._memory_usage(self.paths["memory"])
        return Usage(cpu_ms=cpu_us // 1000, peak_memory_bytes=peak_bytes, oom_kills=kills)

    def _memory_usage(self, path: str) -> tuple[int, int]:
        """Peak in bytes, and how often the kernel killed."""
        if self.version == 2:
            peak = f"{path}/memory.peak"  # Linux 5.19
            peak_bytes = int(read(peak if os.path.exists(peak) else f"{path}/memory.current"))
            return peak_bytes, _field(read(f"{path}/memory.events"), "oom_kill")
        return int(read(f"{path}/memory.max_usage_in_bytes")), _field(read(f"{path}/memory.oom_control"), "oom_kill")


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: with the pid, an identity that is never reused."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def server_name(owner: int) -> str:
    """What things on this machine are called that belong to the server whose main process is `owner`."""
    return f"{_ROOT_PREFIX}{owner}-{_start_time(owner)}-{_pid_namespace()}"


def is_stale(name: str, prefix: str = _ROOT_PREFIX) -> bool:
    """Whether a name begins like that of a server of this pid namespace, and that is no longer alive."""
    pid, started, namespace = [*name.removeprefix(prefix).split("-"), "", ""][:3]
    if not name.startswith(prefix) or not pid.isdigit() or namespace != str(_pid_namespace()):
        return False
    return _start_time(int(pid)) != started


def server_group(hierarchy: Hierarchy, owner: int, purpose: str = "") -> Group:
    """The group for all sandboxes of the server whose main process is `owner`; `create_parent` makes it."""
    name = f"{server_name(owner)}{purpose}"
    return Group(hierarchy.version, {key: f"{path}/{name}" for key, path in hierarchy.mounts.items()})


def group_of(pid: int, hierarchy: Hierarchy, proc: str = "/proc") -> Group | None:
    """The group that a process is in, made by whomever; None where this machine does not show it."""
    places: dict[str, str] = {}
    try:
        with open(f"{proc}/{pid}/cgroup") as file:
            for line in file:
                number, names, path = line.rstrip("\n").split(":", 2)
                places |= dict.fromkeys(
                    CONTROLLERS if number == "0" and hierarchy.version == 2 else names.split(","), path
                )
    except OSError:
        return None
    paths = {key: mount + places[key] for key, mount in hierarchy.mounts.items() if key in places}
    return Group(hierarchy.version, paths) if paths and all(map(os.path.isdir, paths.values())) else None


def process_identity(pid: int) -> str:
    """A name that no other process of this machine has, now or later. Empty when it is gone."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    started = _start_time(pid)
    return f"{boot}-{_pid_namespace()}-{pid}-{started}" if started else ""


def create_parent(group: Group) -> None:
    """Make a group that will have groups below it, with all controllers switched on for them. Raises OSError."""
    controllers = " ".join(f"+{name}" for name in group.paths if name != "cpuacct")
    for path in group.directories:
        if group.version == 2:
            write(f"{os.path.dirname(path)}/cgroup.subtree_control", controllers)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
        if group.version == 2:
            write(f"{path}/cgroup.subtree_control", controllers)


def _pid_namespace() -> int:
    """Which pid namespace this is: a pid means nothing in another one."""
    return os.stat("/proc/self/ns/pid").st_ino


def stale_directories(hierarchy: Hierarchy, prefix: str = _ROOT_PREFIX) -> list[str]:
    """Directories of servers of this pid namespace that are no longer alive: those of their sandboxes, or others that
    are called the same but for the prefix."""
    return [f"{root}/{name}" for root in hierarchy.roots for name in os.listdir(root) if is_stale(name, prefix)]
