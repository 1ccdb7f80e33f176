"""Emptying and removing control groups, of sandboxes that are over or of servers that have died."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Collection, Iterable

from isol8.kernel.cgroups import read, write

_INTERVAL_S = 0.01


def unleash_below(paths: Iterable[str]) -> None:
    """Lift every limit of processor time in groups and below them. Before any of them is swept: what is killed needs
    some to end, and is limited by the directory of one controller while it is waited for in that of another."""
    for path in paths:
        for directory, _, _ in os.walk(path):
            for name, unlimited in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
                with contextlib.suppress(FileNotFoundError):  # another version or controller, or gone
                    write(f"{directory}/{name}", unlimited)


def sweep(path: str, timeout_s: float) -> None:
    """Kill what runs in a group and below it, and remove it all. Raises OSError when it is not gone in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        _kill_tree(path)
        try:
            return remove_tree(path)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(_INTERVAL_S)  # a dead process leaves its group a moment later, and nothing tells of it


def sweep_all(paths: Collection[str], timeout_s: float) -> None:
    """Let what is in these groups off its limits, then sweep one after the other. Raises OSError as `sweep` does."""
    unleash_below(paths)
    for path in paths:
        sweep(path, timeout_s)


def _kill_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        write(f"{path}/cgroup.kill", 1)  # version 2, Linux 5.14
        return
    for directory, _, _ in os.walk(path):
        with contextlib.suppress(FileNotFoundError):
            # 0 is a process that this pid namespace has no number for; to kill(2) it would be our own group.
            for pid in set(read(f"{directory}/cgroup.procs").split()) - {"0"}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def remove_tree(path: str) -> None:
    """Remove a group's directory and those below it. Raises OSError (EBUSY) while processes are in one."""
    with contextlib.suppress(FileNotFoundError):
        with os.scandir(path) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for child in children:
            remove_tree(child)
        os.rmdir(path)
