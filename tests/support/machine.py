"""Watching the machine from outside the server: processes, cgroups, mounts, descriptors, memory.

Nothing here asks the server. What `/proc` and `/sys/fs/cgroup` say is what counts.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.support import daemon, engines

Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], what: str | Callable[[], str], seconds: float = 120.0) -> Found:
    """Call `condition` until it gives something true, and return that.

    Raises AssertionError, naming `what`, when the deadline passes first. It is far off: a machine may be busy, and one
    that is not never gets there.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            missing = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {missing}")
        time.sleep(0.02)


def _read(path: str) -> bytes:
    """A file of /proc or of a cgroup; empty when its process or group is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
            return b""
        raise


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int | str) -> list[str]:
    """What the kernel counts of a process or thread, from its state on, which is field 3 of proc(5); empty when it is
    gone, at whichever moment that was: a test that watches others end must not read this by itself."""
    # The name may hold anything, brackets too: the fields start behind its last closing one.
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].decode().split()


def status(pid: int | str) -> dict[str, str]:
    """What the kernel says of a process or thread, by name; empty when it is gone."""
    lines = _read(f"/proc/{pid}/status").decode(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def command(pid: int) -> str:
    """Its arguments, each with a zero byte behind it; empty when it is gone."""
    return _read(f"/proc/{pid}/cmdline").decode(errors="surrogateescape")


def users(pid: int) -> list[int]:
    """Whose it is: its real, effective, saved and file system user; empty when it is gone."""
    return [int(uid) for uid in status(pid).get("Uid", "").split()]


def oom_score(pid: int) -> str:
    """What is added to how soon the kernel would take it when memory is short; empty when it is gone."""
    return _read(f"/proc/{pid}/oom_score_adj").decode().strip()


def threads(pid: int | str) -> list[str]:
    """Each as a name for `stat` and `status`."""
    return [f"{pid}/task/{Path(path).name}" for path in glob.glob(f"/proc/{pid}/task/*")]


def parent(pid: int) -> int | None:
    """Who started the process, or took it over; None when it is gone."""
    fields = stat(pid)
    return int(fields[1]) if fields else None


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and waits for its parent."""
    return stat(pid)[:1] == ["Z"]


def descendants(root: int) -> set[int]:
    """Children of `root`, their children, and so on; `root` is not among them."""
    parents = {pid: parent(pid) for pid in _pids()}
    found: set[int] = set()
    grown = {root}
    while grown:
        grown = {pid for pid, above in parents.items() if above in grown} - found
        found |= grown
    return found


def marked(mark: str) -> set[int]:
    """Processes that were started, or forked, with `mark` in their environment."""
    found = set()
    for pid in _pids():
        try:
            environment = _read(f"/proc/{pid}/environ")
        except PermissionError:
            continue  # closed even to root: the machine's own, as its first process may be
        if mark.encode() in environment:
            found.add(pid)
    return found


def running(argument: str) -> set[int]:
    """Live processes whose command line contains `argument`."""
    # One that has ended since its command was read is no zombie either.
    return {pid for pid in _pids() if argument in command(pid) and started(pid) is not None}


def proxies(server_pid: int) -> set[int]:
    """The proxy of a server's programs. That of its builds keeps files, and looks the same but for that."""
    found = running("isol8.egress.process") & descendants(server_pid)
    return {pid for pid in found if '"downloads"' not in command(pid)}


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still exist and have not ended."""
    return {pid for pid in pids if started(pid) is not None}


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to all of them, one after the other. The end of one may already have ended another."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def started(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None when it is gone or has ended. Ids are used again:
    only together with this do they name a process."""
    fields = stat(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def cgroups(server_pid: int | None = None) -> list[str]:
    """Directories of sandboxes, in every hierarchy, at its top or in a group that was made over to an ordinary user; of
    one server when its main process is given."""
    if engines.of_docker():
        return [path for container in daemon.containers(server_pid) for path in _cgroups_of(container["Id"])]
    name = "isol8-*" if server_pid is None else f"isol8-{server_pid}-*"
    return sorted(
        directory
        for top in (f"/sys/fs/cgroup/{name}", f"/sys/fs/cgroup/*/{name}", f"/sys/fs/cgroup/*/delegated-*/{name}")
        for start in glob.glob(top)
        for directory, _, _ in os.walk(start)
    )


def _cgroups_of(container: str) -> list[str]:
    """Where Docker's two cgroup drivers put a container, and Podman's, on both versions."""
    places = (f"docker/{container}", f"system.slice/docker-{container}.scope", f"libpod_parent/libpod-{container}")
    return sorted(
        directory
        for place in places
        for start in (f"/sys/fs/cgroup/{place}", f"/sys/fs/cgroup/*/{place}")
        for directory in glob.glob(start)
    )


def cgroups_of_sandbox(server_pid: int, sandbox: str) -> list[str]:
    """The directories of one sandbox, by the id that its executions' results have."""
    if engines.of_docker():
        named = [each for each in daemon.containers(server_pid) if f"/isol8-{sandbox}" in each["Names"]]
        return [path for container in named for path in _cgroups_of(container["Id"])]
    return [path for path in cgroups(server_pid) if sandbox in path]


def members(path: str) -> list[int]:
    """The processes in one cgroup, as the kernel lists them; none when it is gone."""
    return [int(pid) for pid in _read(f"{path}/cgroup.procs").split()]


def cgroup_members(server_pid: int) -> set[int]:
    """Every process in the cgroups of one server."""
    return {pid for path in cgroups(server_pid) for pid in members(path)}


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has had; 0 when it is gone. Unlike time on the wall it tells nothing of what
    else the machine has to do."""
    return sum(map(int, stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def mounts() -> list[str]:
    """The mount points this process sees, repetitions included."""
    return sorted(line.split()[4] for line in _read("/proc/self/mountinfo").decode().splitlines())


def mounts_below(directory: Path) -> list[str]:
    """Deepest first."""
    return sorted((place for place in mounts() if place.startswith(f"{directory}/")), reverse=True)


def descriptors(pid: int) -> list[str]:
    """What a process has open; nothing when it is gone."""
    directory = f"/proc/{pid}/fd"
    found = []
    try:
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # closed while we were looking
                found.append(os.readlink(f"{directory}/{name}"))
    except (FileNotFoundError, ProcessLookupError):
        return []
    return sorted(found)


@contextlib.contextmanager
def watching(look: Callable[[], object]) -> Iterator[None]:
    """Call `look` again and again, in a thread, while the block runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            look()
            done.wait(0.05)

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(repeat)
        try:
            yield
        finally:
            done.set()
    watcher.result()


def resident_bytes(pid: int) -> int:
    """Memory a process really holds, in bytes; 0 when it is gone."""
    return _kilobytes(pid, "VmRSS") * 1024


def peak_bytes(pid: int) -> int:
    """The most memory a process has ever held, in bytes; 0 when it is gone."""
    return _kilobytes(pid, "VmHWM") * 1024


def _kilobytes(pid: int, field: str) -> int:
    # One that has ended and waits for its parent has no memory to tell of.
    return int(status(pid).get(field, "0").split()[0])


def mappings(pid: int) -> int:
    """How many a process has; 0 when it is gone."""
    return _read(f"/proc/{pid}/maps").count(b"\n")


def faults(pid: int) -> int:
    """How many pages were copied for a process, or brought in."""
    return int(stat(pid)[7])


def faults_of_children(pid: int) -> int:
    """The same of those children that have ended, and that the process has waited for."""
    return int(stat(pid)[8])
