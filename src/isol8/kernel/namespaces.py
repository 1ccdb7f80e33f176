"""Namespaces: entering new ones, and bringing up a new network namespace's loopback."""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os

from isol8.kernel.syscalls import check, libc, locked_libc, number

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000

# What a sandbox has for itself, but for its network, which may be the machine's, and what only its processes can make.
OF_SANDBOX = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS

_SIGCHLD = 17
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
# A request of ioctl(2) on a socket, and its struct ifreq: to bring up a new network namespace's `lo`.
RAISE_LOOPBACK = (
    _SIOCSIFFLAGS,
    b"lo".ljust(16, b"\0") + (_IFF_UP | _IFF_LOOPBACK).to_bytes(2, "little").ljust(24, b"\0"),
)


def unshare(flags: int) -> None:
    """Move this process into new namespaces. Raises OSError."""
    check(libc.unshare(flags), "unshare")


def open_own(name: str) -> int:
    """A descriptor of one of this process's namespaces ("mnt", "net", …), by which it can come back. The caller
    closes it."""
    return os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def enter(descriptor: int) -> None:
    """Move this process into the namespace behind a descriptor. Of a mount namespace the root becomes the current
    directory. Raises OSError."""
    check(libc.setns(descriptor, 0), "setns")


def clone(flags: int) -> int:
    """Fork into new namespaces: the child's pid in the caller, 0 in the child. Raises OSError.

    `os.fork` with flags: the interpreter's own fork hooks run around the raw call. glibc's cached thread id stays
    stale in the child until its next fork, so a child must fork again before it runs foreign code.
    The caller must have one thread only: glibc's fork handlers do not run.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    result = locked_libc.syscall(
        ctypes.c_long(number("clone")), ctypes.c_long(flags | _SIGCHLD), *([ctypes.c_long(0)] * 4)
    )
    if result == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    ctypes.set_errno(code)
    return check(result, "clone")


def loopback_up() -> None:
    """Bring up `lo` in the current network namespace. Raises OSError."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(probe.fileno(), *RAISE_LOOPBACK)
    finally:
        probe.close()
