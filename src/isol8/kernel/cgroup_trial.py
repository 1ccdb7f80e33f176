"""Trying each cgroup controller: a group is made, limited, entered and removed."""

from __future__ import annotations

import os
from functools import partial

from isol8.kernel import cgroups, sweeping
from isol8.kernel.cgroups import CONTROLLERS, Group, Hierarchy
from isol8.kernel.forked import attempt
from isol8.model import Limits

_LIMITS = Limits(memory_bytes=64 << 20, cpus=0.5, pids=16, sandbox_bytes=0, tmp_bytes=0)
_SWEEP_TIMEOUT_S = 20.0
_TIMEOUT_S = 60.0


def try_controllers(hierarchy: Hierarchy, owner: int) -> dict[str, str]:
    """Why a controller cannot be used, for each that cannot; "swap" is among them when it cannot be limited."""
    problems = {name: hierarchy.absent for name in CONTROLLERS if name not in hierarchy.mounts}
    groups = {}
    parent = cgroups.server_group(hierarchy, owner, "-trial")
    try:
        for name, path in parent.paths.items():
            try:
                groups[name] = _limited(Group(parent.version, {name: path}))
            except OSError as error:
                problems[name] = _sentence(error)
        if "memory" in groups and not os.path.exists(groups["memory"].swap_file) and _machine_swaps():
            problems["swap"] = "the kernel was started without swap accounting, and the machine has swap"
        return problems | _enter(groups)
    finally:
        for directory in parent.directories:
            sweeping.sweep(directory, _SWEEP_TIMEOUT_S)


def _sentence(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _limited(parent: Group) -> Group:
    """A group below `parent`, with limits on it. Raises OSError."""
    cgroups.create_parent(parent)
    group = parent.child(*parent.paths)
    group.create()
    group.harden()
    group.limit(_LIMITS)
    return group


def _machine_swaps() -> bool:
    with open("/proc/swaps") as file:
        return len(file.readlines()) > 1


def _enter(groups: dict[str, Group]) -> dict[str, str]:
    """Enter each group, in a process of its own; why not, for those that refuse."""
    problems = {}
    for name, group in groups.items():
        try:
            attempt(partial(_enter_one, group), _TIMEOUT_S)
        except OSError as error:
            problems[name] = _sentence(error)
    return problems


def _enter_one(group: Group) -> None:
    for descriptor in group.entries():
        os.write(descriptor, b"0")
