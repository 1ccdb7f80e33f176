"""What the kernel's two versions of cgroups do differently, and a caller must not see."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isol8.errors import Conflict
from isol8.kernel import cgroups, sweeping
from isol8.kernel.cgroups import Group
from isol8.model import Limits
from tests.engine.conftest import LIMITS, Lab, python
from tests.support import machine

pytestmark = pytest.mark.cgroup

MIB = 1 << 20
# Keeps memory, in a process that outlives its program.
HOLD = """
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    kept = bytearray(b'x') * ({megabytes} << 20)
    os.write(writer, b'x')
    time.sleep(3600)
os.read(reader, 1)
"""
# Reads files anew: their pages then belong to whoever read them.
READ = """
import glob, os
wanted = {megabytes} << 20
for path in glob.glob('/usr/lib/gcc/*/*/*') + glob.glob('/usr/lib/*-linux-gnu/*.so'):
    if wanted <= 0 or os.path.isdir(path): continue
    with open(path, 'rb', buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while part := len(file.read(1 << 20)): wanted -= part
print(wanted <= 0)
"""


def _memory(megabytes: int) -> Limits:
    return dataclasses.replace(LIMITS, memory_bytes=megabytes * MIB)


def _holder(lab: Lab) -> set[int]:
    """The processes that hold memory in the sandboxes of this test."""
    return {pid for pid in machine.descendants(lab.supervisor.pid) if machine.resident_bytes(pid) > 90 * MIB}


async def test_less_memory_than_is_in_use_is_refused_and_kills_nobody(lab: Lab) -> None:
    sandbox = await lab.create()
    assert (await python(sandbox, HOLD.format(megabytes=100)))[0] == 0
    holder = _holder(lab)
    assert len(holder) == 1
    with pytest.raises(Conflict):
        await lab.engine.limit(sandbox, _memory(50))
    assert machine.alive(holder) == holder
    assert (await lab.engine.usage(sandbox)).oom_kills == 0
    # What held before still does.
    assert (await python(sandbox, "b = bytearray(100 << 20); print(len(b))"))[0] == 0
    assert (await python(sandbox, "b = bytearray(200 << 20)"))[0] == 137


async def test_pages_of_files_do_not_count_against_a_lower_limit(lab: Lab) -> None:
    sandbox = await lab.create()
    assert await python(sandbox, READ.format(megabytes=50)) == (0, "True\n")
    assert (await lab.engine.usage(sandbox)).peak_memory_bytes > 50 * MIB
    await lab.engine.limit(sandbox, _memory(40))
    assert await python(sandbox, "print(1)") == (0, "1\n")
    assert (await lab.engine.usage(sandbox)).oom_kills == 0


def _quota(group: Group) -> str:
    """How much of each period the group may have the processor; "max" or "-1": all of it."""
    return Path(group.paths["cpu"], "cpu.max" if group.version == 2 else "cpu.cfs_quota_us").read_text().split()[0]


@contextmanager
def _guest(group: Group) -> Iterator[None]:
    """Another process in a group, which cannot be removed meanwhile."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        try:
            for directory in group.directories:
                Path(directory, "cgroup.procs").write_text(str(process.pid))
            yield
        finally:
            process.kill()


async def test_a_small_share_of_the_processor_does_not_slow_the_end(lab: Lab) -> None:
    """Freeing memory is work that the kernel bills to the sandbox: who is killed is let off the limit."""
    sandbox = await lab.create(dataclasses.replace(LIMITS, cpus=0.01))
    group = lab.engine._groups[sandbox.id]
    assert group
    assert _quota(group) == "1000"
    with _guest(group):
        destroying = asyncio.create_task(lab.engine.destroy(sandbox))
        await asyncio.to_thread(machine.until, lambda: _quota(group) in ("max", "-1"), "the limit is lifted")
    await destroying


@pytest.fixture
def group() -> Iterator[Group]:
    if os.geteuid() != 0:
        pytest.skip("the native engine needs root")
    parent = cgroups.server_group(cgroups.detect(), os.getpid(), "-sweep")
    cgroups.create_parent(parent)
    yield parent
    for directory in parent.directories:
        sweeping.sweep(directory, 120)


def test_what_is_swept_may_use_the_processor(group: Group) -> None:
    """In the directories of all controllers before one of them is waited for; also where there is none of a group."""
    slow = group.child("slow")
    slow.create()
    slow.limit(dataclasses.replace(LIMITS, cpus=0.01))
    assert _quota(slow) == "1000"
    sweeping.unleash_below([*group.directories, f"{group.directories[0]}/nowhere"])
    assert _quota(slow) in ("max", "-1")


def test_a_sweep_bears_with_another(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that start at the same time both remove what a dead one has left."""
    child = group.child("gone")
    child.create()
    really_open = os.open

    def opened_and_removed(path: str, flags: int) -> int:
        descriptor = really_open(path, flags)
        os.rmdir(os.path.dirname(path))
        return descriptor

    for directory in child.directories:
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", opened_and_removed)
            sweeping.sweep(directory, 120)
        assert not os.path.exists(directory)


def test_a_sweep_catches_what_forks_meanwhile(group: Group) -> None:
    child = group.child("bomb")
    child.create()
    child.limit(dataclasses.replace(LIMITS, pids=30))
    entries = child.entries()
    code = (
        f"import os\nfor descriptor in {entries!r}: os.write(descriptor, b'0')\n"
        "while True:\n    try: os.fork()\n    except OSError: pass"
    )
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", code]
    with subprocess.Popen(command, pass_fds=entries) as process:
        for descriptor in entries:
            os.close(descriptor)
        machine.until(lambda: len(machine.members(child.paths["pids"])) > 20, "it forks")
        for directory in group.directories:
            sweeping.sweep(directory, 120)
        process.wait(120)
    assert not [path for path in group.directories if os.path.exists(path)]


if cgroups.find().version == 2:

    def test_controllers_in_use_cannot_be_taken_back(group: Group) -> None:
        """Whoever owns the top of the hierarchy may tidy it up: what sandboxes are limited by stays."""
        group.child("limited").create()
        for name in ("memory", "cpu", "pids"):
            with pytest.raises(OSError, match="busy"):
                Path(group.directories[0]).parent.joinpath("cgroup.subtree_control").write_text(f"-{name}")


async def test_what_the_kernel_refuses_is_named(group: Group) -> None:
    child = group.child("small")
    child.create()
    path = child.paths["pids"]
    with pytest.raises(OSError, match=f"{path}/pids.max"):
        await asyncio.to_thread(child.limit, dataclasses.replace(LIMITS, pids=-10))
