"""How far something has got: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import Self

_WIDTH = 24


class Progress:
    """`steps` are how the lines begin that say that a step is reached, in their order."""

    def __init__(self, title: str, steps: tuple[str, ...]) -> None:
        self._title = title
        self._steps = steps
        self._reached = 0
        self._is_terminal = sys.stdout.isatty()

    def __enter__(self) -> Self:
        self._show(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._reached = len(self._steps)
            self._show("done")
        if self._is_terminal:
            print(flush=True)

    def say(self, line: str) -> None:
        """Something was done."""
        for number, step in enumerate(self._steps[self._reached :], self._reached):
            if line.startswith(step):
                self._reached = number
        self._show(line)

    def _show(self, line: str) -> None:
        if not self._is_terminal:
            print(f"isol8: {line}", flush=True)
            return
        done = _WIDTH * self._reached // len(self._steps)
        bar = f"[{'#' * done}{'.' * (_WIDTH - done)}] "
        room = shutil.get_terminal_size().columns - len(bar) - 1
        print(f"\r\033[K{bar}{line[: max(room, 10)]}", end="", flush=True)
