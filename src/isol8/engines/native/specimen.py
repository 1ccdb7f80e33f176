"""Looking at a real sandbox from outside, for what its layers have come to. The kernel's word is what counts.

Each check returns what is wrong, or nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from isol8.engines.native.root import DEVICES
from isol8.kernel.cgroups import Group
from isol8.model import Limits

_SECCOMP_FILTER = "2"
_NAMESPACES = {
    "process-namespace": "pid",
    "mount-namespace": "mnt",
    "network-namespace": "net",
    "ipc-namespace": "ipc",
    "host-name-namespace": "uts",
    "cgroup-namespace": "cgroup",
}
_READ_ONLY = ("/", "/usr", "/dev")
_MASKED = ("kcore", "keys", "timer_list", "sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Specimen:
    """A waiting sandbox: its first process, and what it was given."""

    pid: int
    uid: int
    group: Group
    limits: Limits

    def status(self, name: str) -> str:
        """A line of /proc/PID/status."""
        with open(f"/proc/{self.pid}/status") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(f"{name}:")), "")

    def mounts(self) -> dict[str, tuple[str, set[str], str]]:
        """What is mounted where: kind, flags, options of the file system. Of several, the last one is seen."""
        found = {}
        with open(f"/proc/{self.pid}/mountinfo") as file:
            for line in file:
                mount, _, system = line.partition(" - ")
                fields, kind = mount.split(), system.split()
                found[fields[4]] = (kind[0], set(fields[5].split(",")), kind[2])
        return found


def look(specimen: Specimen) -> dict[str, str]:
    """What is wrong with the specimen, by layer."""
    found = {}
    for name, kind in _NAMESPACES.items():
        if os.readlink(f"/proc/{specimen.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
            found[name] = "the sandbox shares it with the machine"
    for name, check in _CHECKS.items():
        problem = check(specimen)
        if problem:
            found[name] = problem
    return found


def _root(specimen: Specimen) -> str:
    mounted = specimen.mounts()
    loose = [path for path in _READ_ONLY if path in mounted and not {"ro", "nosuid"} <= mounted[path][1]]
    loose += [path for path, (_, flags, _) in mounted.items() if "nosuid" not in flags]
    # Files of /proc are masked with a device: /dev/null. In a user namespace each device is a mount.
    devices = ("/dev", *(f"/dev/{name}" for name in DEVICES), *(f"/proc/{name}" for name in os.listdir("/proc")))
    loose += [path for path, (_, flags, _) in mounted.items() if "nodev" not in flags and path not in devices]
    return f"mounted with too many rights: {', '.join(sorted(set(loose)))}" if loose else ""


def _proc(specimen: Specimen) -> str:
    kind, _, options = specimen.mounts()["/proc"]
    if kind != "proc" or "hidepid" not in options:
        return "processes of other users would be seen in it"
    for name in _MASKED:
        if os.path.exists(f"/proc/{name}"):
            status = os.stat(f"/proc/{specimen.pid}/root/proc/{name}")
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
                return f"/proc/{name} is not masked"
    return "" if "ro" in specimen.mounts()["/proc/sys"][1] else "/proc/sys can be written to"


def _sizes(specimen: Specimen) -> str:
    wanted = {"sandbox": specimen.limits.sandbox_bytes, "tmp": specimen.limits.tmp_bytes}
    for path, size in wanted.items():
        status = os.statvfs(f"/proc/{specimen.pid}/root/{path}")
        if status.f_blocks * status.f_frsize > size:
            return f"/{path} is larger than it should be"
    return ""


def _user(specimen: Specimen) -> str:
    user = [str(specimen.uid)] * 4
    if specimen.status("Uid").split() != user or specimen.status("Gid").split() != user or specimen.status("Groups"):
        return "the sandbox runs as somebody else"
    return ""


def _capabilities(specimen: Specimen) -> str:
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if specimen.status(name).strip("0")]
    return f"not empty: {', '.join(held)}" if held else ""


def _limit_of_files(specimen: Specimen) -> str:
    with open(f"/proc/{specimen.pid}/limits") as file:
        limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
    # One byte is no core dump either (see zygotes.py); where the server's own limit is 0 it stays that.
    if not {*limits["Max core file size"]} <= {"0", "1"} or "unlimited" in limits["Max open files"]:
        return "core dumps or open files are not limited"
    return ""


def _runner(specimen: Specimen) -> str:
    return "its user can read it" if os.stat(f"/proc/{specimen.pid}/environ").st_uid == specimen.uid else ""


def _in_group(controller: str) -> Callable[[Specimen], str]:
    def check(specimen: Specimen) -> str:
        path = specimen.group.paths.get(controller)
        if path is None:
            return ""  # the probe of the controller has said why
        with open(f"{path}/cgroup.procs") as file:
            return "" if str(specimen.pid) in file.read().split() else "the sandbox is not in its group"

    return check


_CHECKS: dict[str, Callable[[Specimen], str]] = {
    "read-only-root": _root,
    "own-proc": _proc,
    "sized-file-systems": _sizes,
    "own-user": _user,
    "no-capabilities": _capabilities,
    "bounding-set": lambda specimen: "not empty" if specimen.status("CapBnd").strip("0") else "",
    "no-new-privileges": lambda specimen: "" if specimen.status("NoNewPrivs") == "1" else "not set",
    "seccomp": lambda specimen: "" if specimen.status("Seccomp") == _SECCOMP_FILTER else "no filter is loaded",
    "memory-limit": _in_group("memory"),
    "processor-limit": _in_group("cpu"),
    "process-limit": _in_group("pids"),
    "resource-limits": _limit_of_files,
    "runner-out-of-reach": _runner,
}
