"""Steps that open what the interpreter had open: anew, so that no two copies share anything, by the same numbers."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.machine import Step
from isol8.engines.native.copying.state import Descriptor
from isol8.engines.native.copying.table import Table, call

_AT_FDCWD = -100
_EPOLL_CTL_ADD = 1
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_STREAMS = 3


def open_all(table: Table, numbers: list[int]) -> Iterator[Step]:
    """The kernel gives the lowest number that is free: in their order, all get those that they had.

    The first of `numbers` is where the kernel has written the copy's process number; by way of a pipe it is written to
    the others, too. Raises Unfit.
    """
    pair = table.put(bytes(8))
    ends: dict[str, Descriptor] = {}
    pipes = 0
    for each in table.image.descriptors[_STREAMS:]:
        if each.kind == "epoll":
            yield call("epoll_create1", each.flags & _CLOEXEC)
        elif each.kind == "event":
            yield call("eventfd2", 0, each.flags & (_CLOEXEC | _NONBLOCK))
        elif each.kind == "null":
            yield call("openat", _AT_FDCWD, table.put(b"/dev/null\0"), each.flags, 0)
        elif each.identity in ends:
            _check(ends.pop(each.identity), each)
        else:
            ends[each.identity] = each
            yield call("pipe2", pair, each.flags & (_CLOEXEC | _NONBLOCK))
            if not pipes:
                yield from _tell(each.number, numbers)
            pipes += 1
            if each.content:
                yield call("write", each.number + 1, table.put(each.content), len(each.content))
    if ends or not pipes:
        raise Unfit("it has one end of a pipe, or none")
    yield from _watch(table)


def _tell(pipe: int, numbers: list[int]) -> Iterator[Step]:
    for place in numbers[1:]:
        yield call("write", pipe + 1, numbers[0], 4)
        yield call("read", pipe, place, 4)


def _check(reader: Descriptor, writer: Descriptor) -> None:
    alike = (reader.flags | os.O_WRONLY) == writer.flags and not reader.flags & os.O_ACCMODE
    if writer.number != reader.number + 1 or not alike:
        raise Unfit("it has a pipe that is not as pipe2 makes one")


def _watch(table: Table) -> Iterator[Step]:
    for each in table.image.descriptors:
        for watched, events, data in each.watched:
            event = table.put(struct.pack("=IQ", events, data))  # packed, on x86-64
            yield call("epoll_ctl", each.number, _EPOLL_CTL_ADD, watched, event)
