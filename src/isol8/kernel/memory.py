"""Memory of this process."""

from __future__ import annotations

import ctypes
import errno
import gc
import os

from isol8.kernel.syscalls import check, libc

PRESENT, EXCLUSIVE = 0x80, 0x81  # bits 63, and 56 of an entry of /proc/PID/pagemap, in its highest byte
MADV_POPULATE_WRITE = 23  # Linux 5.14
_PAGE = os.sysconf("SC_PAGE_SIZE")
_madvise = libc.madvise
_madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)


def keep_out_of_sight(objects: list[object]) -> None:
    """Never let go of the objects, whoever else does, and take them out of the collector's sight: it neither finds nor
    counts them, nor takes its time over them, and the interpreter does not take them apart when it ends.

    Both belong together: CPython's deallocators expect an object that the collector knows.
    """
    for value in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
        ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(value))


def freeze_all_but(kept: list[object]) -> None:
    """Take every object there is now out of the collector's sight, except those in `kept`."""
    for value in kept:
        ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(value))
    gc.freeze()
    for value in kept:
        ctypes.pythonapi.PyObject_GC_Track(ctypes.py_object(value))


def pages(wanted: int, process: int | str = "self", kinds: tuple[str, ...] = ("rw-p",)) -> set[int]:
    """The numbers of a process's pages whose state is PRESENT or EXCLUSIVE, of mappings with such permissions; see
    Documentation/admin-guide/mm/pagemap.rst. After a fork, those that are EXCLUSIVE were written to since."""
    found: set[int] = set()
    with open(f"/proc/{process}/maps") as table, open(f"/proc/{process}/pagemap", "rb", buffering=0) as states:
        for line in table.readlines():
            addresses, permissions = line.split(" ", 2)[:2]
            if permissions in kinds:
                start, end = (int(address, 16) // _PAGE for address in addresses.split("-"))
                states.seek(start * 8)
                top = states.read((end - start) * 8)[7::8]
                found.update(start + number for number, state in enumerate(top) if state & wanted == wanted)
    return found


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """(start, length) in bytes of pages, neighbours together."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1]:
            spans[-1][1] += 1
        else:
            spans.append([number, number + 1])
    return [(start * _PAGE, (end - start) * _PAGE) for start, end in spans]


def populate(ranges: list[tuple[int, int]]) -> None:
    """Take private copies of pages that are shared with the process this one was forked from.

    On a kernel that cannot, nothing happens: every page is then copied when it is first written to.
    """
    for start, length in ranges:
        result = _madvise(start, length, MADV_POPULATE_WRITE)
        if result == -1 and ctypes.get_errno() == errno.EINVAL:
            return
        check(result, "madvise")
