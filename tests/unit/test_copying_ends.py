"""Where an interpreter's end begins: nothing is taken for granted about an executable, or about a stack."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from isol8.engines.native.copying.ends import STACK_BYTES, Ending
from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.leaving import Departure, Leaving
from isol8.engines.native.copying.symbols import Executable

ENDING = Ending(address=1, flags=2, flags_bytes=3, tail=4, stream=5)
BACK = 0x7DEADBEEF000
CODE = 91


class Run:
    """One that ends with what is at `live`."""

    def __init__(self, live: int, back: int = BACK) -> None:
        self.stack = stack(back)
        self._live = live
        self._code = CODE

    def change(self, offset: int, value: int) -> None:
        if offset == self._live:
            self._code = value

    def end(self) -> int:
        return self._code


def stack(back: int = BACK) -> bytes:
    words = bytearray(STACK_BYTES)
    struct.pack_into("=Q", words, 0, back)
    for offset in (20, 28):
        struct.pack_into("=i", words, offset, CODE)
    return bytes(words)


@pytest.mark.parametrize(
    ("run", "code"),
    [(lambda: Run(20), 20), (lambda: Run(28), 28), (lambda: Run(40), None), (lambda: Run(20, BACK + 1), None)],
)
def test_the_code_is_what_a_process_ends_with(run: Callable[[], Run], code: int | None) -> None:
    found = ENDING.found(stack(), CODE, run)
    assert (Leaving.unpack(found).code if found else None) == code
    assert not found or (Leaving.unpack(found).back, len(found)) == (BACK, 56)


def test_one_place_alone_is_the_code() -> None:
    runs = iter([Run(20), Run(28)])
    assert ENDING.found(stack(), CODE, lambda: next(runs)) == b""


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_other_files_have_no_symbols(content: bytes) -> None:
    with pytest.raises(Unfit, match="format"):
        Executable(content)


def test_one_that_may_be_anywhere_is_unfit() -> None:
    with pytest.raises(Unfit, match="anywhere"):
        Executable(Path("/bin/true").read_bytes())


def test_only_what_is_as_it_was_departs() -> None:
    """This process: its stack and flags are words of its own."""
    words = bytearray(128)
    address = address_of(words)
    struct.pack_into("=QI", words, 0, BACK, 0x1FF)
    leaving = Leaving(
        address=1, back=BACK, code=8, flags=address + 16, flags_bytes=8, tail=address + 24, stream=address + 32
    )
    departure = Departure(os.getpid(), Leaving.unpack(leaving.pack()))
    assert departure.status(address) == 0xFF << 8
    for at in (0, 16, 24, 32, 103):
        kept = words[at]
        words[at] ^= 1
        assert departure.status(address) is None
        words[at] = kept
    assert departure.status(address) == 0xFF << 8
    assert departure.status(8) is None  # nothing is there


def address_of(words: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(words))


def test_another_number_of_threads_does_not_depart() -> None:
    words = bytearray(128)
    address = address_of(words)
    struct.pack_into("=Q", words, 0, BACK)
    departure = Departure(os.getpid(), Leaving(1, BACK, 8, address + 16, 8, address + 24, address + 32))
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert departure.status(address) is None
    over.set()
    thread.join()
