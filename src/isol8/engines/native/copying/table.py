"""Room in a template for the steps of its table, and for what they point to."""

from __future__ import annotations

import os
from collections.abc import Iterable

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.installing import DATA_BYTES, Image
from isol8.engines.native.copying.machine import CODE, STEP, Step
from isol8.kernel.call_table import number


def call(name: str, *arguments: int) -> Step:
    """A step that makes a system call."""
    return Step(number(name), arguments)


class Table:
    """The table of one template, being written. `fatal` and `end` are steps that end the process that comes to them."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._free = image.data
        self._steps: list[Step] = []
        self.fatal = self.add(call("exit_group", 1))
        self.end = self.add(call("exit_group", 0))
        for step in (self.fatal, self.end):
            step.then = step.failed = step

    def put(self, content: bytes, align: int = 8) -> int:
        """Reserve room for something, and write it there; its address. Raises Unfit: there is too little."""
        address = (self._free + align - 1) & -align
        self._free = address + len(content)
        if self._free > self.image.data + DATA_BYTES:
            raise Unfit("there is not enough room for what is to be known of it")
        os.pwrite(self.image.memory, content, address)
        return address

    def add(self, step: Step) -> Step:
        """Give a step its address."""
        step.address = self.put(bytes(STEP.size))
        self._steps.append(step)
        return step

    def chain(self, steps: Iterable[Step], end: Step) -> Step:
        """Put steps in a row before `end`; the first one. One that fails is the end of its process, unless it says
        otherwise."""
        row = [step if step.address else self.add(step) for step in steps]
        for step, following in zip(row, [*row[1:], end], strict=True):
            step.then = step.then or following
            step.failed = step.failed or self.fatal
        return row[0]

    def write(self, steps: Iterable[Step] | None = None) -> None:
        """Put the instructions and the steps, by default all, in place."""
        for step in self._steps if steps is None else steps:
            os.pwrite(self.image.memory, step.pack(), step.address)
        os.pwrite(self.image.memory, CODE, self.image.code)
