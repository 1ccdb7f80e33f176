"""Raw system calls, for what CPython 3.11 does not wrap. Failures are `OSError` with the call's name.

Numbers are from the kernel's own tables (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h); those from 424 on are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os

MACHINE = os.uname().machine
_COLUMN = {"x86_64": 0, "aarch64": 1}
_NUMBERS = {
    "clone": (56, 220),
    "pivot_root": (155, 41),
    "ptrace": (101, 117),
    "capset": (126, 91),
    "rt_sigaction": (13, 134),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "get_robust_list": (274, 100),
    "seccomp": (317, 277),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}

libc = ctypes.CDLL(None, use_errno=True)
# The same library, entered without letting go of the interpreter lock: a clone must not lose it half way.
locked_libc = ctypes.PyDLL(None, use_errno=True)


def check(result: int, name: str) -> int:
    """The result of a libc call, or its errno as OSError(errno, "name: reason")."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def number(name: str) -> int:
    """The number of a system call on this machine. Raises OSError where isol8 has no table for it."""
    if MACHINE not in _COLUMN:
        raise OSError(f"isol8 has no system call table for {MACHINE}")
    return _NUMBERS[name][_COLUMN[MACHINE]]


def syscall(name: str, *arguments: int | bytes | None) -> int:
    """Make one raw system call; integers are passed as C longs, bytes as a pointer to them (the kernel must only read).

    Bytes rather than ctypes arrays: each length of those makes a class, which a program in a sandbox would find as
    garbage of its own.
    """
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return check(libc.syscall(ctypes.c_long(number(name)), *converted), name)
