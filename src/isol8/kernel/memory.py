"""Memory of this process."""

from __future__ import annotations

import ctypes
import errno

from isol8.kernel.syscalls import check, libc

_MADV_POPULATE_WRITE = 23  # Linux 5.14


def keep_for_ever(value: object) -> None:
    """Never let go of an object, whoever else does: a count of references that nothing takes back."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def populate() -> None:
    """Take private copies of all pages that are shared with the process this one was forked from, and writable.

    On a kernel that cannot, nothing happens: every page is then copied when it is first written to.
    """
    with open("/proc/self/maps") as table:
        lines = table.readlines()
    for line in lines:
        addresses, permissions = line.split(" ", 2)[:2]
        if permissions != "rw-p" or line.endswith("[stack]\n"):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        result = libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_WRITE)
        if result == -1 and ctypes.get_errno() == errno.EINVAL:
            return
        check(result, "madvise")
