"""What a server has and uses, as the kernel counts it: memory, processor time, descriptors, cgroups, mounts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from bench.figures import percentile
from bench.results import Census, Memory
from tests.support import machine
from tests.support.server import Server

_STILL_S = 1.0
_SETTLE_S = 60


def sandboxes(server: Server) -> dict[str, set[int]]:
    """The processes of every sandbox, by the name of its cgroup. A group without processes is no sandbox."""
    found: dict[str, set[int]] = {}
    for path in machine.cgroups(server.pid):
        members = machine.members(path)
        name = os.path.basename(path)
        if members and not name.startswith("isol8-"):
            found.setdefault(name, set()).update(members)
    return found


def pss_bytes(pid: int) -> int:
    """Its memory, with its share of what it shares; 0 when it is gone (Documentation/filesystems/proc.rst)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def memory(groups: Iterable[set[int]]) -> Memory:
    """Of sandboxes. Raises ValueError when there is none."""
    groups = list(groups)
    sizes = sorted(sum(map(pss_bytes, pids)) / 1e6 for pids in groups)
    return Memory(
        count=len(sizes),
        processes=sum(map(len, groups)),
        mean_mb=round(sum(sizes) / max(1, len(sizes)), 3),
        p50_mb=round(percentile(sizes, 50), 3),
        max_mb=round(sizes[-1], 3),
    )


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time of all threads of the processes so far, in seconds. Ticks of 10 ms would be too coarse."""
    total = 0
    for pid in pids:
        for task in _listed(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, ProcessLookupError):
        return []


def available_bytes() -> int:
    """Memory of the machine that could be taken now."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


def settle(server: Server) -> None:
    """Wait until the server's processes and groups have stayed the same for a second: pools full, nothing being
    taken apart. Raises AssertionError when that takes more than a minute."""
    seen: tuple[set[int], list[str]] = (set(), [])
    since = time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        now = (server.processes(), machine.cgroups(server.pid))
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > _STILL_S

    machine.until(still, "a server at rest", _SETTLE_S)


def take(server: Server) -> Census:
    """Count everything, once the server is at rest."""
    settle(server)
    groups = sandboxes(server)
    lasting = server.processes() - set().union(*groups.values())
    return Census(
        processes=len(lasting),
        pss_mb=round(sum(map(pss_bytes, lasting)) / 1e6, 2),
        descriptors=sum(len(machine.descriptors(pid)) for pid in lasting),
        sandboxes=len(groups),
        cgroups=len(machine.cgroups(server.pid)),
        mounts=len(machine.mounts()),
        temporary_files=sum(len(files) for _, _, files in os.walk(server.directory / "tmp")),
    )
