"""What this machine lets the engine do, found out by doing it.

Everything happens in one forked process (its namespaces, mounts and lost privileges end with it) and in trial cgroups
that are removed at once. Each probe either does what a sandbox will need, or raises OSError with the reason.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Collection, Iterator
from functools import partial

from isol8.engines.user_ids import PROBE
from isol8.kernel import landlock, mounts, namespaces, privileges, seccomp
from isol8.kernel.forked import attempt, lines_from_fork

_TIMEOUT_S = 60.0
_ROOM = 1 << 20

Probe = Callable[[], None]


def _new(flag: int) -> Probe:
    return lambda: namespaces.unshare(flag)


def _network() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNET)
    namespaces.loopback_up()


def _mount_namespace() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.make_private()
    mounts.mount("tmpfs", "/tmp", "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, f"size={_ROOM}")


def _as_first_process(work: Probe) -> Probe:
    """A process moves its next child into a new process namespace, which ends with that child."""

    def move() -> None:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        attempt(work, _TIMEOUT_S)

    return lambda: attempt(move, _TIMEOUT_S)


def _be_first() -> None:
    if os.getpid() != 1:
        raise OSError(errno.EINVAL, "the first process of the namespace is not number 1")


def _read_only_root() -> None:
    for name in ("root", "root/usr"):
        os.mkdir(f"/tmp/{name}")
    mounts.bind("/tmp/root", "/tmp/root")
    mounts.bind_read_only("/usr", "/tmp/root/usr")
    _refused("/tmp/root/usr", os.O_WRONLY | os.O_TMPFILE)
    attempt(_change_root, _TIMEOUT_S)


def _change_root() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.pivot_to("/tmp/root")
    if os.listdir("/") != ["usr"]:
        raise OSError(errno.EINVAL, "the old root can still be seen")


def _refused(path: str, flags: int) -> None:
    """Opening `path` to write must fail for the reason that its mount is read-only."""
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    raise OSError(errno.EINVAL, "a read-only mount can be written to")


def _mount_proc() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount("proc", "/proc", "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC, "hidepid=2")
    mounts.mount("/dev/null", "/proc/uptime", flags=mounts.MS_BIND)
    mounts.mount("/proc/sys", "/proc/sys", flags=mounts.MS_BIND)
    mounts.mount("none", "/proc/sys", flags=mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY)
    # Opening a file to write would tell as much to root alone.
    if not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        raise OSError(errno.EINVAL, "a part of /proc does not become read-only")


def _sized() -> None:
    directory = os.open("/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.resize_tmpfs(directory, 2 * _ROOM)
    status = os.fstatvfs(directory)
    if status.f_blocks * status.f_frsize != 2 * _ROOM:
        raise OSError(errno.EINVAL, "a file system keeps its size")


def _process_handles() -> None:
    handle = os.pidfd_open(os.getpid())
    signal.pidfd_send_signal(handle, 0)
    os.close(handle)


def _resource_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _out_of_reach() -> None:
    privileges.set_dumpable(False)
    if os.stat("/proc/self/environ").st_uid == os.getuid():
        raise OSError(errno.EINVAL, "what belongs to a process stays open to its user")


def _user() -> None:
    os.setgroups([])
    os.setresgid(PROBE, PROBE, PROBE)
    os.setresuid(PROBE, PROBE, PROBE)


def _no_capabilities() -> None:
    privileges.give_up_capabilities()
    with open("/proc/self/status") as file:
        held = [line for line in file if line.startswith("Cap") and line.split()[1].strip("0")]
    if held:
        raise OSError(errno.EPERM, f"some are kept: {'; '.join(' '.join(line.split()) for line in held)}")


def _landlock() -> None:
    landlock.restrict(landlock.ruleset_for("/usr"))
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    except PermissionError:
        return
    raise OSError(errno.EINVAL, "what is outside can still be opened")


def _seccomp() -> None:
    seccomp.load_filter(seccomp.compile_filter())
    try:
        namespaces.unshare(0)  # asks for nothing, so that only the filter can refuse it
    except PermissionError:
        return
    raise OSError(errno.EINVAL, "a call that is not allowed goes through")


# In this order: those at the end take away what the ones before need.
_PROBES: dict[str, Probe] = {
    "mount-namespace": _mount_namespace,
    "ipc-namespace": _new(namespaces.CLONE_NEWIPC),
    "host-name-namespace": _new(namespaces.CLONE_NEWUTS),
    "network-namespace": _network,
    "cgroup-namespace": _new(namespaces.CLONE_NEWCGROUP),
    "sized-file-systems": _sized,
    "read-only-root": _read_only_root,
    "process-namespace": _as_first_process(_be_first),
    "own-proc": _as_first_process(_mount_proc),
    "process-handles": _process_handles,
    "resource-limits": _resource_limits,
    "bounding-set": privileges.empty_bounding_set,
    "own-user": _user,
    "no-capabilities": _no_capabilities,
    "runner-out-of-reach": _out_of_reach,
    "no-new-privileges": privileges.forbid_new_privileges,
    "landlock": _landlock,
    "seccomp": _seccomp,
}
_NEEDS = {"read-only-root": "mount-namespace", "sized-file-systems": "mount-namespace", "own-proc": "mount-namespace"}


def probe(known: Collection[str] = ()) -> dict[str, str]:
    """Why each probe failed, for those that did; layers that are `known` to be missing are not tried. Takes some
    milliseconds, and leaves nothing behind."""
    found = dict(line.split("\t", 1) for line in lines_from_fork(partial(_probe_all, known), _TIMEOUT_S))
    for name in _PROBES.keys() - found - set(known):
        found[name] = "the process that tried it, or something before it, was killed"
    return {name: reason for name, reason in found.items() if reason}


def _probe_all(known: Collection[str]) -> Iterator[str]:
    failed: dict[str, str] = {}
    for name, work in _PROBES.items():
        if name in known:
            continue
        reason = f"there is no {_NEEDS[name]}" if _NEEDS.get(name) in failed else ""
        try:
            if not reason:
                work()
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            failed[name] = reason
        yield f"{name}\t{' '.join(reason.split())}"
