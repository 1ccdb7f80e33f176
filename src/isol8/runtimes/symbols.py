"""Where a program's variables are, by the names that its file exports to what it loads."""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator

# ELF of 64 bits in this machine's byte order; the structures are those of elf(5).
_IDENTITY = b"\x7fELF\x02" + bytes([1 if sys.byteorder == "little" else 2])
_HEADER = struct.Struct("=24x Q 8x Q 10x HHH")  # e_entry, e_shoff, e_shentsize, e_shnum, e_shstrndx
_SECTION = struct.Struct("=4x I 16x QQ I")  # sh_type, sh_offset, sh_size, sh_link
_SYMBOL = struct.Struct("=I B x H QQ")  # st_name, st_info, st_shndx, st_value, st_size
_DYNSYM = 11
_OBJECT = 1


def find_variables(executable: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """Where each variable of that name and size (bytes) is in the memory of a process, in bytes from the program's
    entry point, in the order of `sizes`. Empty: not all of them are there, or this is no file that tells."""
    try:
        with open(executable, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[: len(_IDENTITY)] != _IDENTITY:
                return ()
            entry = _HEADER.unpack_from(content)[0]
            found = {name: value - entry for name, value, size in _variables(content) if sizes.get(name) == size}
    except (OSError, ValueError, OverflowError, struct.error):
        return ()
    return tuple(found[name] for name in sizes) if found.keys() == sizes.keys() else ()


def _variables(content: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Name, address and size of every variable that is defined and exported."""
    _, start, size, count, _ = _HEADER.unpack_from(content)
    sections = [_SECTION.unpack_from(content, start + size * index) for index in range(count)]
    for kind, offset, length, link in sections:
        if kind != _DYNSYM or link >= count:
            continue
        names = sections[link][1]
        for at in range(offset, offset + length, _SYMBOL.size):
            name, info, section, value, bytes_ = _SYMBOL.unpack_from(content, at)
            if info & 0xF == _OBJECT and section:
                yield content[names + name : content.find(b"\0", names + name)].decode(), value, bytes_
