"""Where functions and variables of an executable are, by the names in its table of symbols (elf(5), 64 bits)."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from isol8.engines.native.copying.errors import Unfit

_HEADER = struct.Struct("=16xHHIQQQIHHHHHH")  # behind e_ident
_SECTION = struct.Struct("=IIQQQQIIQQ")
_SEGMENT = struct.Struct("=IIQQQQQQ")
_SYMBOL = struct.Struct("=IBBHQQ")
_SYMBOLS = 2  # SHT_SYMTAB
_DYNAMIC = 2  # PT_DYNAMIC
_FIXED = 2  # ET_EXEC: addresses are those in memory


@dataclass(frozen=True, slots=True)
class Symbol:
    """An address, and how many bytes are there."""

    address: int
    size: int


class Executable:
    """One that is not moved when it is loaded. Raises Unfit: it is not such a one, or has no table."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        if content[:6] != b"\x7fELF\x02\x01":
            raise Unfit("its executable is not of a known format")
        kind, _, _, _, segments, sections, _, _, size, count, section_size, section_count, _ = _HEADER.unpack_from(
            content
        )
        if kind != _FIXED or size != _SEGMENT.size or section_size != _SECTION.size:
            raise Unfit("its executable may be anywhere in memory")
        self._segments = [_SEGMENT.unpack_from(content, segments + size * each) for each in range(count)]
        self._sections = [
            _SECTION.unpack_from(content, sections + section_size * each) for each in range(section_count)
        ]

    def dynamic(self) -> int:
        """Where the loader's table is."""
        for kind, _, _, address, *_ in self._segments:
            if kind == _DYNAMIC:
                return int(address)
        raise Unfit("its executable is not dynamic")

    def symbol(self, name: str) -> Symbol:
        """The only one of that name."""
        found = [symbol for table in self._sections if table[1] == _SYMBOLS for symbol in self._named(name, table)]
        if len(found) != 1:
            raise Unfit(f"its executable has {len(found)} symbols {name}")
        return found[0]

    def _named(self, name: str, table: tuple[int, ...]) -> list[Symbol]:
        strings = self._sections[table[6]]
        first = strings[4]
        at = self._content.find(b"\0" + name.encode() + b"\0", first, first + strings[5]) + 1
        if not at:
            return []
        symbols = _SYMBOL.iter_unpack(self._content[table[4] : table[4] + table[5] // _SYMBOL.size * _SYMBOL.size])
        return [Symbol(value, size) for number, _, _, _, value, size in symbols if number == at - first]
