"""Finding out where the end of an interpreter begins, and where its exit code is then: see `leaving.py`."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.leaving import Leaving
from isol8.engines.native.copying.symbols import Executable

STACK_BYTES = 256  # of which the function's caller has some
_FREE_ENVIRONMENT = "_ZN4node15FreeEnvironmentEPNS_11EnvironmentE"
_FLAGS = "_ZN2v88internal8v8_flagsE"
_STDOUT = "stdout@GLIBC_2.2.5"  # a pointer
_MOST_FLAG_BYTES = 16384
_DEBUG = 21  # DT_DEBUG, where the loader says where its list is
_MOST_ENTRIES = 200
_OTHER_CODE = 37


class Run(Protocol):
    """An interpreter that has stopped there."""

    stack: bytes

    def change(self, offset: int, value: int) -> None: ...

    def end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """As in `Leaving`, but for what a rehearsal has to find out."""

    address: int
    flags: int
    flags_bytes: int
    tail: int
    stream: int

    def found(self, stack: bytes, code: int, again: Callable[[], Run]) -> bytes:
        """`stack` is that of a run that has stopped there and was to end with `code`. What is on it is the exit code
        if another one, put into its place, is what a process ends with. Nothing if there is no such place, or several.
        """
        words = struct.unpack(f"={len(stack) // 4}i", stack)
        likely = [4 * index for index, word in enumerate(words) if word == code]
        found = [offset for offset in likely if self._ends_with(again(), stack[:8], offset)]
        if len(found) != 1:
            return b""
        back = int.from_bytes(stack[:8], "little")
        return Leaving(self.address, back, found[0], self.flags, self.flags_bytes, self.tail, self.stream).pack()

    def _ends_with(self, run: Run, back: bytes, offset: int) -> bool:
        if run.stack[:8] == back:
            run.change(offset, _OTHER_CODE)
        return run.end() == _OTHER_CODE


def ending_of(process: int, memory: int) -> Ending:
    """Of an interpreter whose memory is the descriptor `memory`. Raises Unfit, OSError."""
    with open(f"/proc/{process}/exe", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            executable = Executable(content)
            flags, address = executable.symbol(_FLAGS), executable.symbol(_FREE_ENVIRONMENT).address
            stream = executable.symbol(_STDOUT).address
            dynamic = executable.dynamic()
        except (struct.error, IndexError) as error:
            raise Unfit("its executable is not as is known") from error
    if not 0 < flags.size <= _MOST_FLAG_BYTES:
        raise Unfit("its flags are not as is known")
    return Ending(address, flags.address, flags.size, _tail(memory, dynamic), _word(memory, stream))


def _tail(memory: int, dynamic: int) -> int:
    """Where the loader will note what it loads next: in the last entry of its list."""
    entries = struct.iter_unpack("=qQ", os.pread(memory, 16 * _MOST_ENTRIES, dynamic))
    debug = next((value for kind, value in entries if kind == _DEBUG), 0)
    entry = _word(memory, debug + 8)  # struct r_debug: version, first entry
    for _ in range(_MOST_ENTRIES):
        tail = entry + 24  # struct link_map: address, name, dynamic table, next
        entry = _word(memory, tail)
        if not entry:
            return tail
    raise Unfit("its loader's list has no end")


def _word(memory: int, address: int) -> int:
    raw = os.pread(memory, 8, address)
    if len(raw) < 8:
        raise Unfit("its memory is not as is known")
    return int.from_bytes(raw, "little")
