"""Giving up privileges, and what a process may show of itself."""

from __future__ import annotations

import ctypes
import os
import sys

from isol8.kernel.syscalls import check, libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22
_RLIMIT_NPROC = 6


def _prctl(name: str, option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    check(libc.prctl(option, *padded), f"prctl {name}")


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the parent dies. Changing the user id clears this: ask again after it."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal_number)


def set_dumpable(dumpable: bool) -> None:
    """Whether others with the same user id may trace this process and read its /proc entries."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(dumpable))


def empty_bounding_set() -> None:
    """Give up the right to regain any capability through exec; what this process has, it keeps. Inherited."""
    for capability in range(64):
        try:
            _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == _EINVAL:  # one past the last capability this kernel knows
                return
            raise


def drop_to(uid: int, gid: int, *, keep_groups: bool = False) -> None:
    """Become an ordinary user for good: no capabilities, no new privileges through exec.

    `empty_bounding_set` is a step of its own, since it can be taken once for many forks. `keep_groups` is for a user
    namespace in which groups cannot be dropped. Raises OSError; the caller must not go on then.
    """
    if not keep_groups:
        os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    give_up_capabilities()
    forbid_new_privileges()


def give_up_capabilities() -> None:
    """Keep none of the capabilities this process has. Raises OSError."""
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    syscall("capset", header, bytes(24))


def limit_processes(most: int) -> None:
    """No fork while this process's user has that many processes and threads. Nobody but root may raise it again."""
    # struct rlimit64: rlim_cur, rlim_max
    limit = most.to_bytes(8, sys.byteorder) * 2
    check(libc.prlimit(0, _RLIMIT_NPROC, limit, None), "prlimit RLIMIT_NPROC")


def forbid_new_privileges() -> None:
    """Set-user-id programs and file capabilities give nothing any more, to this process and all it starts."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


# The same as system calls, for a table of them (call_table.py): the name of each, and its arguments. `put` is where to
# keep what they point to.


def calls_to_drop(put: Callable[[bytes], int]) -> list[tuple[str, tuple[int | None, ...]]]:
    """What `drop_to` does. None stands for the user's and the group's number."""
    header = put(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4))
    return [
        ("setgroups", (0, 0)),
        ("setresgid", (None, None, None)),
        ("setresuid", (None, None, None)),
        ("prctl", (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)),
        ("capset", (header, put(bytes(24)))),
        ("prctl", (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
    ]


def call_to_die_with_parent(signal_number: int) -> tuple[str, tuple[int, ...]]:
    """What `die_with_parent` does."""
    return "prctl", (_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def call_to_set_dumpable(dumpable: bool) -> tuple[str, tuple[int, ...]]:
    """What `set_dumpable` does."""
    return "prctl", (_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)
