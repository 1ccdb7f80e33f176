"""What a run is on: the machine, its load, the versions of everything, the revision."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.results import Machine
from isol8.runtimes.base import Install

ROOT = Path(__file__).parents[1]
_LOOK_S = 1.0
_STEAL = 7
_IDLE = (3, 4)


def _ticks() -> list[int]:
    """Processor time of the machine by kind, in ticks (man 5 proc_stat)."""
    with open("/proc/stat") as file:
        return [int(field) for field in file.readline().split()[1:9]]


class Watch:
    """Looks at the machine when it is made, which takes a second, and when it is asked for what it saw."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        before = _ticks()
        time.sleep(_LOOK_S)
        self._ticks = _ticks()
        passed = [now - then for now, then in zip(self._ticks, before, strict=True)]
        self._busy = 1 - sum(passed[kind] for kind in _IDLE) / max(1, sum(passed))

    def machine(self) -> Machine:
        """The machine, and how it was since this object was made."""
        passed = [now - then for now, then in zip(_ticks(), self._ticks, strict=True)]
        return Machine(
            cpu=_first_value("/proc/cpuinfo", "model name") or platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            kernel=f"{platform.system()} {platform.release()}",
            system=_system(),
            load_before=round(self._load, 2),
            busy_before=round(self._busy, 3),
            stolen=round(passed[_STEAL] / max(1, sum(passed)), 4),
        )


def _first_value(path: str, key: str) -> str:
    with open(path) as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith(key)), "")


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def versions(installed: Mapping[str, Install]) -> dict[str, str]:
    """Of the runtimes that were measured."""
    return {name: install.version for name, install in installed.items()}


def revision() -> str:
    """The commit, with a `+` when there is more in the tree than it has; "unknown" outside of a repository."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "bench", "pyproject.toml", "requirements.lock")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
