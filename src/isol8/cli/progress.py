"""Progress of a long piece of work: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 24


class Progress:
    """`step` it as often as it tells, and `close` it. `say` prints a line where there is no terminal."""

    def __init__(self, say: Callable[[str], None], stream: TextIO | None = None) -> None:
        self._say = say
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._begun = time.monotonic()
        self._drawn = False

    def step(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps are behind us, and the next is `what`."""
        if not self._bar:
            self._say(f"[{done}/{total}] {what}")
            return
        filled = _WIDTH * done // total
        seconds = time.monotonic() - self._begun
        bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}]"
        # Back to the start of the line, and clear what is left of the last one.
        self._stream.write(f"\r\x1b[K{bar} {done}/{total} {seconds:3.0f} s  {what}")
        self._stream.flush()
        self._drawn = True

    def close(self) -> None:
        """End the line."""
        if self._drawn:
            self._stream.write("\n")
            self._drawn = False
