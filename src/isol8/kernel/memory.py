"""Memory of this process."""

from __future__ import annotations

import ctypes
import errno
import os

from isol8.kernel.syscalls import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

_MADV_POPULATE_WRITE = 23  # Linux 5.14
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SMALL_GAP = 4  # pages; a call costs as much as copying a few


def keep_out_of_sight(objects: list[object]) -> None:
    """Never let go of the objects, whoever else does, and take them out of the collector's sight: it neither finds nor
    counts them, nor takes its time over them, and the interpreter does not take them apart when it ends.

    Both belong together: CPython's deallocators expect an object that the collector knows.
    """
    for value in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
        ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(value))


def written_ranges() -> list[tuple[int, int]]:
    """(start, length) in bytes of the private memory that this process has written to so far."""
    ranges: list[tuple[int, int]] = []
    with open("/proc/self/maps") as table, open("/proc/self/pagemap", "rb", buffering=0) as pages:
        for line in table.readlines():
            addresses, permissions = line.split(" ", 2)[:2]
            if permissions == "rw-p":
                start, end = (int(address, 16) for address in addresses.split("-"))
                ranges += _present(pages, start, end)
    return ranges


def _present(pages: FileIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of one mapping that have pages; see Documentation/admin-guide/mm/pagemap.rst."""
    pages.seek(start // _PAGE * 8)
    entries = pages.read((end - start) // _PAGE * 8)
    first = None
    gap = 0
    for number in range((end - start) // _PAGE):
        present = entries[number * 8 + 7] & 0xC0
        if present:
            first = number if first is None else first
            gap = 0
        elif first is not None:
            gap += 1
            if gap > _SMALL_GAP:
                yield start + first * _PAGE, (number + 1 - gap - first) * _PAGE
                first = None
    if first is not None:
        yield start + first * _PAGE, (number + 1 - gap - first) * _PAGE


def populate(ranges: list[tuple[int, int]]) -> None:
    """Take private copies of pages that are shared with the process this one was forked from.

    On a kernel that cannot, nothing happens: every page is then copied when it is first written to.
    """
    for start, length in ranges:
        result = libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_POPULATE_WRITE)
        if result == -1 and ctypes.get_errno() == errno.EINVAL:
            return
        check(result, "madvise")
