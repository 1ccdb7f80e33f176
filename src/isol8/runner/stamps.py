"""The moment at which an interpreter believes to have been started, in its own memory: it counts from there.

One that was started ahead of time counts from when its program came instead. Where in its memory the moment is, is
known from its file; whether that is true of this process, from what is there: nothing else happens to be the time at
which it was started, to the microsecond, twice.
"""

from __future__ import annotations

import os
import sys
import time

_AT_ENTRY = 9  # of the auxiliary vector: where the program's entry point is in memory
_WORD = 8
_MICRO = 1_000_000


def now() -> int:
    """The calendar's time, in µs."""
    return time.time_ns() // 1000


class Stamps:
    """The stamps of the process `pid`, a child of this one's user: `offsets` are where it keeps a time_t, and a struct
    timeval of the same moment, in bytes from its entry point. It was started at `since` (µs) or later. `close` it.

    Raises OSError: its memory cannot be had. ValueError: no such moment is there.
    """

    def __init__(self, pid: int, offsets: list[int], since: int) -> None:
        entry = _entry(pid)
        self._second, self._moment = (entry + offset for offset in offsets)
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            second, moment = (
                os.pread(self._memory, _WORD, self._second),
                os.pread(self._memory, 2 * _WORD, self._moment),
            )
            began = _number(moment[:_WORD]) * _MICRO + _number(moment[_WORD:])
            if moment[:_WORD] != second or not since <= began <= now():
                raise ValueError("when it was started is not where it is known to be")
        except (OSError, ValueError):
            self.close()
            raise

    def renew(self) -> None:
        """It has been started just now. Raises OSError."""
        seconds, micro = divmod(now(), _MICRO)
        second = seconds.to_bytes(_WORD, sys.byteorder)
        moment = second + micro.to_bytes(_WORD, sys.byteorder)
        # One write each, within a page or not: what is short has failed.
        if os.pwrite(self._memory, second, self._second) != len(second):
            raise OSError("its memory takes no second")
        if os.pwrite(self._memory, moment, self._moment) != len(moment):
            raise OSError("its memory takes no moment")

    def close(self) -> None:
        """Let go of its memory. Idempotent."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


def _number(word: bytes) -> int:
    return int.from_bytes(word, sys.byteorder)


def _entry(pid: int) -> int:
    with open(f"/proc/{pid}/auxv", "rb", buffering=0) as file:
        vector = file.read()
    for at in range(0, len(vector), 2 * _WORD):
        if _number(vector[at : at + _WORD]) == _AT_ENTRY:
            return _number(vector[at + _WORD : at + 2 * _WORD])
    raise ValueError("it has no entry point")
