"""What a container is made from: everything that isolates it, in one place, as the Docker API takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isol8.engines import bundle
from isol8.engines.resources import bounded_limits, with_own_kernel
from isol8.model import Limits

# The server that a container belongs to: see owners.py.
LABEL = "isol8.server"
# On those that outlive a crash of it: which servers may take them over (records.py).
HOME_LABEL = "isol8.home"
CHANGEABLE = ("memory_bytes", "cpus", "pids")
_CPU_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000
_PODMAN_PROCESSES = (32_768, 32_768)
# Docker's own (moby, oci/defaults.go), and more: with these lists given, it masks no others.
_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/sys",  # firmware, cgroups, devices: none of it is a program's business
    "/proc/1/cmdline",  # the runner's; the rest of it is closed to its own user
)
# What it has no way to make read-only, and does not by itself.
_PODMAN_MASKED = ("/proc/pressure",)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/pressure")


@dataclass(frozen=True, slots=True)
class Making:
    """What is the same for all containers of a server. `runtime` is an OCI runtime the daemon knows; empty is its
    default. `labels` go on every container."""

    image: str
    runtime: str
    labels: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Daemon:
    """What kind of daemon it is.

    `profile` is the seccomp profile, or where the daemon reads it. `podman`: that has no owner among the options of a
    tmpfs, and masks by another option. `gvisor`: whether containers have a kernel of their own, which counts as theirs.
    """

    profile: str
    podman: bool
    gvisor: bool


def ulimits(*, podman: bool) -> list[dict[str, Any]]:
    """Podman sets a limit of processes too if it is given none, which takes a capability that not every root has."""
    limits = bounded_limits() | ({"nproc": _PODMAN_PROCESSES} if podman else {})
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.items()]


def describe(
    making: Making, daemon: Daemon, request: dict[str, Any], uid: int, shown: Mapping[str, str], home: str = ""
) -> dict[str, Any]:
    """The body of POST /containers/create, but for the image. `request`: see engines/protocol.py. `shown`: which
    directories of this machine the container sees, read-only, by where it sees them. With `home`, it outlives a crash
    of its server."""
    # One that is filtered is none, with a way out by other means (outlets.py).
    network = "host" if request["network"] == "host" else "none"
    limits, podman = Limits(**request["limits"]), daemon.podman
    owned = "mode=0777,notmpcopyup" if podman else f"mode=0755,uid={uid},gid={uid}"
    masking = [f"mask={':'.join((*_MASKED, *_PODMAN_MASKED))}"] if podman else []
    host: dict[str, Any] = {
        "AutoRemove": True,
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "LogConfig": {"Type": "none"},
        "MaskedPaths": list(_MASKED),
        # What of it is mounted later on the machine does not come after.
        "Mounts": [
            {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
            | {"BindOptions": {"Propagation": "rprivate"}}
            for target, source in shown.items()
        ],
        "NetworkMode": network,
        "ReadonlyPaths": list(_READ_ONLY),
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges", f"seccomp={daemon.profile}", *masking],
        "ShmSize": limits.tmp_bytes,
        "Tmpfs": {
            **dict.fromkeys(_made_below_run(request["mounts"]), "rw,noexec,nosuid,nodev,mode=0755,size=64k"),
            "/sandbox": f"rw,exec,nosuid,nodev,{owned},size={limits.sandbox_bytes}",
            "/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}",
        },
        "Ulimits": ulimits(podman=podman),
        **changeable(with_own_kernel(limits) if daemon.gvisor else limits),
    }
    if network == "none":
        # Docker takes ::1 away where there is no network for it.
        host["Sysctls"] = {f"net.ipv6.conf.{name}.disable_ipv6": "0" for name in ("all", "lo")}
    if making.runtime:
        host["Runtime"] = making.runtime
    return {
        "Entrypoint": list(bundle.COMMAND),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in making.environment.items() if not request["image"]],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/sandbox",
        "Hostname": "sandbox",
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        # When whoever is attached goes, the runner reads the end of its input, and ends; unless it is to be kept.
        "StdinOnce": not home,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": making.labels | ({HOME_LABEL: home} if home else {}),
        "HostConfig": host,
    }


def _made_below_run(wanted: list[list[str]]) -> set[str]:
    """Where directories are shown that no image has: what is below /run is made."""
    return {os.path.dirname(target) for _, target in wanted if target.startswith("/run/")}


def changeable(limits: Limits) -> dict[str, int]:
    """The limits that Docker can change while a container runs: also the body of POST /containers/…/update."""
    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # of both together: no swap
        "CpuPeriod": _CPU_PERIOD_US,
        "CpuQuota": max(int(limits.cpus * _CPU_PERIOD_US), _MIN_QUOTA_US),
        "PidsLimit": limits.pids + 1,  # the runner is no business of the caller's
    }
