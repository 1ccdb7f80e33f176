"""Resource limits of every program, whatever the server itself was started with."""

from __future__ import annotations

import dataclasses
import resource
from types import MappingProxyType

from isol8.model import Limits

ENDLESS = resource.RLIM_INFINITY
# Soft and hard, by the lower-case names that Docker and OCI use too. A core file limit of 1 keeps the kernel from
# handing the core to a program of the machine as well, which 0 does not (man 5 core). Real-time processes would not be
# held to a share of the processor.
RESOURCE_LIMITS = MappingProxyType(
    {
        "core": (1, 1),
        "cpu": (ENDLESS, ENDLESS),
        "fsize": (ENDLESS, ENDLESS),
        "memlock": (8 << 20, 8 << 20),
        "msgqueue": (819_200, 819_200),
        "nice": (0, 0),
        "nofile": (1024, 65_536),
        "rtprio": (0, 0),
        "sigpending": (8192, 8192),
        "stack": (8 << 20, ENDLESS),
    }
)

# gVisor's own: its kernel's heap and threads, and a process of the machine for every address space in the sandbox.
_GVISOR_MEMORY_BYTES = 32 << 20
_GVISOR_PROCESSES = 128


def with_own_kernel(limits: Limits) -> Limits:
    """What the machine's cgroup is given for a sandbox under gVisor: its limits, and room for gVisor itself."""
    memory, pids = limits.memory_bytes + _GVISOR_MEMORY_BYTES, limits.pids + _GVISOR_PROCESSES
    return dataclasses.replace(limits, memory_bytes=memory, pids=pids)


def bounded_limits() -> dict[str, tuple[int, int]]:
    """The same as far as this process's own hard limits reach: raising one takes a capability that not every root
    has."""
    found = {}
    for name, wanted in RESOURCE_LIMITS.items():
        hard = resource.getrlimit(kind_of(name))[1]
        soft, most = (value if hard == ENDLESS or 0 <= value <= hard else hard for value in wanted)
        found[name] = (soft, most)
    return found


def kind_of(name: str) -> int:
    """The number of a limit, for `resource.setrlimit`."""
    number: int = getattr(resource, f"RLIMIT_{name.upper()}")
    return number
