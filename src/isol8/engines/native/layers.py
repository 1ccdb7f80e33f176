"""The isolation layers of a native sandbox: what each is for, and what to do where it is missing.

Whether one is enforced is found out in two ways: `probes.py` tries each by itself, before anything else starts, and
`specimen.py` looks at a real sandbox. A layer is enforced when neither finds fault. docs/threat-model.md has the same
table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isol8.engines import layers
from isol8.engines.base import Layer, Need
from isol8.engines.layers import Description

PRIVILEGES = "start the server as root, in a container with all privileges (docker run --privileged)"
_KERNEL = "run a kernel that has it"
CGROUPS = (
    "mount the cgroup file system writable and give the server its controllers (in a container: --privileged; "
    "under systemd: Delegate=yes)"
)


LAYERS = (
    Description("process-namespace", Need.ALWAYS, "seeing or signalling processes outside", PRIVILEGES),
    Description("mount-namespace", Need.ALWAYS, "seeing or changing the machine's mounts", PRIVILEGES),
    Description("network-namespace", Need.ALWAYS, "reaching any network but a loopback of its own", PRIVILEGES),
    Description("ipc-namespace", Need.ALWAYS, "shared memory, semaphores and message queues of others", PRIVILEGES),
    Description("host-name-namespace", Need.ALWAYS, "learning or changing the machine's name", PRIVILEGES),
    Description("cgroup-namespace", Need.STRICT, "learning where in the machine's cgroups it runs", PRIVILEGES),
    Description(
        "read-only-root",
        Need.ALWAYS,
        "seeing files of the machine but its toolchains, and changing those, set-user-id programs, device files",
        f"Linux 5.12 or newer; {PRIVILEGES}",
    ),
    Description("own-proc", Need.ALWAYS, "reading or writing what /proc tells of the kernel", PRIVILEGES),
    Description(
        "sized-file-systems",
        Need.ALWAYS,
        "filling a disk, or more memory with files than it was given",
        f"Linux 5.2 or newer; {PRIVILEGES}",
    ),
    Description("own-user", Need.ALWAYS, "sharing anything by user id with another sandbox or the machine", PRIVILEGES),
    Description("no-capabilities", Need.ALWAYS, "everything the kernel reserves for the administrator", PRIVILEGES),
    Description("bounding-set", Need.ALWAYS, "getting a capability back from a file that has one", PRIVILEGES),
    Description("no-new-privileges", Need.ALWAYS, "gaining rights by executing a program", _KERNEL),
    Description(
        "seccomp",
        Need.STRICT,
        "system calls that interpreters do not need, and the kernel's flaws behind them",
        "a kernel with CONFIG_SECCOMP_FILTER, and a container that lets its processes load filters",
    ),
    Description(
        "landlock",
        Need.EXTRA,
        "opening files outside its tree through a descriptor or mount that got in by mistake",
        "a kernel with Landlock of version 2 (Linux 5.19) or newer, and landlock among its lsm= modules",
    ),
    Description("memory-limit", Need.STRICT, "using more memory than it was given", CGROUPS),
    Description("processor-limit", Need.STRICT, "using more processor time than it was given", CGROUPS),
    Description("process-limit", Need.STRICT, "making more processes and threads than it was given", CGROUPS),
    Description(
        "no-swap",
        Need.STRICT,
        "getting round its memory limit through swap",
        "start the kernel with swapaccount=1, or switch swap off (swapoff -a)",
    ),
    Description("resource-limits", Need.ALWAYS, "core dumps, and open files without end", PRIVILEGES),
    Description(
        "runner-out-of-reach", Need.ALWAYS, "tracing or reading the runner, which is its first process", _KERNEL
    ),
    Description(
        "process-handles", Need.ALWAYS, "escaping its end through a process id that is used again", "Linux 5.4"
    ),
)


def judge(problems: Mapping[str, str], described: Iterable[Description] = LAYERS) -> list[Layer]:
    """Every layer, given what is wrong with some."""
    return layers.judge(described, problems)
