"""What is known of an interpreter that is held: threads, descriptors, memory. All of it is what the kernel says."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from isol8.engines.native.copying.errors import Unfit
from isol8.kernel import ptrace
from isol8.kernel.pidfds import take_descriptor
from isol8.kernel.pipes import look_into

_CLOEXEC, _NONBLOCK, _WRITE_ONLY = 0o2000000, 0o4000, 1


@dataclass(frozen=True, slots=True)
class Thread:
    """A stopped thread; `registers` are those with which it is about to make the call it was found in."""

    id: int
    name: bytes
    registers: dict[str, int]
    extended: bytes
    blocked: int
    rseq: tuple[int, int, int]
    robust: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file. `kind`: epoll, event, pipe or null. `flags` as for open(2). Of a pipe's end for reading, `content`
    is what is in it. Of epoll, `watched`: (descriptor, events, data)."""

    number: int
    kind: str
    flags: int
    identity: str = ""
    content: bytes = b""
    watched: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/smaps: addresses, what may be done, the file, and flags of the kernel's."""

    start: int
    end: int
    permissions: str
    path: str
    flags: tuple[str, ...]


def thread_of(process: int, thread: int) -> Thread:
    """A stopped thread, about to make the call that it was stopped in. Raises OSError."""
    registers = ptrace.general_registers(thread)
    registers |= {"rip": registers["rip"] - 2, "rax": registers["orig_rax"]}  # the length of `syscall`
    with open(f"/proc/{process}/task/{thread}/comm", "rb") as file:
        name = file.read().rstrip(b"\n")
    return Thread(
        thread,
        name,
        registers,
        ptrace.extended_registers(thread),
        ptrace.signal_mask(thread),
        ptrace.restartable_sequences(thread),
        ptrace.robust_list(thread),
    )


def descriptors_of(process: int) -> list[Descriptor]:
    """What is open, by number. Raises Unfit for what could not be made anew."""
    numbers = sorted(int(name) for name in os.listdir(f"/proc/{process}/fd"))
    return [_descriptor(process, number) for number in numbers]


def _descriptor(process: int, number: int) -> Descriptor:
    target = os.readlink(f"/proc/{process}/fd/{number}")
    with open(f"/proc/{process}/fdinfo/{number}") as file:
        info = file.read()
    found = re.search(r"^flags:\s+([0-7]+)$", info, re.MULTILINE)
    if not found:
        raise Unfit("descriptors without flags")
    flags = int(found[1], 8)
    if target == "anon_inode:[eventpoll]":
        watches = re.findall(r"^tfd:\s+(\d+) events:\s+([0-9a-f]+) data:\s+([0-9a-f]+)", info, re.MULTILINE)
        watched = tuple((int(tfd), int(events, 16), int(data, 16)) for tfd, events, data in watches)
        return Descriptor(number, "epoll", flags, watched=watched)
    if target == "anon_inode:[eventfd]" and re.search(r"^eventfd-count:\s+0$", info, re.MULTILINE):
        return Descriptor(number, "event", flags)
    if target.startswith("pipe:["):
        content = b"" if flags & _WRITE_ONLY else _content(process, number)
        return Descriptor(number, "pipe", flags, identity=target, content=content)
    if target == "/dev/null":
        return Descriptor(number, "null", flags)
    return Descriptor(number, "other", flags, identity=target)


def _content(process: int, number: int) -> bytes:
    copy = take_descriptor(process, number)
    try:
        return look_into(copy)
    finally:
        os.close(copy)


def mappings_of(process: int) -> Iterator[Mapping]:
    """Its memory, in order."""
    with open(f"/proc/{process}/smaps") as file:
        line = ""
        for text in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", text):
                line = text
            elif text.startswith("VmFlags:"):
                addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
                start, end = (int(value, 16) for value in addresses.split("-"))
                yield Mapping(start, end, permissions, "".join(path).strip(), tuple(text.split()[1:]))


def status_of(process: int, thread: int) -> dict[str, str]:
    """/proc/PID/task/TID/status."""
    with open(f"/proc/{process}/task/{thread}/status") as file:
        pairs = (line.split(":", 1) for line in file)
        return {name: value.strip() for name, value in pairs}


def layout_of(process: int, brk: int, vector: tuple[int, int]) -> bytes:
    """What the kernel notes of where things are: struct prctl_mm_map, with the auxiliary vector that is now at
    `vector`, (address, bytes), and the executable as it is."""
    with open(f"/proc/{process}/stat") as file:
        fields: list[str] = ["", "", "", *file.read().rpartition(")")[2].split()]  # numbered as in proc(5)
    before, after = [*fields[26:28], *fields[45:48]], [fields[28], *fields[48:52]]
    words = [*map(int, before), brk, *map(int, after)]
    return struct.pack("=11QQIi", *words, vector[0], vector[1], -1)


def first_stack_words(process: int, memory: int) -> tuple[int, list[int]]:
    """The words with which the stack began: arguments, environment, auxiliary vector. (address, words)."""
    with open(f"/proc/{process}/stat") as file:
        start = int(file.read().rpartition(")")[2].split()[25])  # field 28, startstack
    raw = os.pread(memory, 8192, start)
    return start, list(struct.unpack(f"={len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))
