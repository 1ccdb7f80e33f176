"""The reference: the bare interpreter of each runtime, unprotected, printing hello."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.spawner import spawn
from isol8.runtimes.base import Install

# What prints hello, and the options that make an interpreter take it as an argument.
PROGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "python": ("print('hello')", ("-I", "-c")),
    "node": ("console.log('hello')", ("-e",)),
    "bun": ("console.log('hello')", ("-e",)),
    "deno": ("console.log('hello')", ("eval",)),
    "bash": ("echo hello", ("-c",)),
}


def hello_command(name: str, install: Install) -> list[str]:
    """The command that prints hello with the very executable that the sandboxes of the runtime `name` have."""
    code, options = PROGRAMS[name]
    return [on_host(name, install), *options, code]


def on_host(name: str, install: Install) -> str:
    """Where the runtime's executable is outside of sandboxes."""
    return f"{install.prefix}/bin/{name}" if install.prefix else install.executable


def time_spawn(command: list[str]) -> float:
    """Wall time in ms until it has ended. Raises BareFailed."""
    began = time.perf_counter()
    spawn(command)
    return (time.perf_counter() - began) * 1000


def time_first_byte(command: list[str]) -> float:
    """Wall time in ms until its first byte of output. Raises BareFailed."""
    began = time.perf_counter()
    first, _ = spawn(command)
    return (first - began) * 1000


def milliseconds(spans: Iterable[tuple[float, float]]) -> list[float]:
    """How long each took that began and ended at these moments, in seconds."""
    return [(end - begin) * 1000 for begin, end in spans]


@dataclass
class Calls:
    """What clients did: start and end of every good call (seconds, monotonic), what went wrong and how often, and the
    processor time of the measuring itself."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    own_cpu_s: float = 0.0

    def fail(self, what: str, times: int = 1) -> None:
        """Count something that went wrong."""
        self.errors[what] = self.errors.get(what, 0) + times

    def add(self, other: Calls) -> None:
        """Count those of another, too."""
        self.spans += other.spans
        self.own_cpu_s += other.own_cpu_s
        for what, times in other.errors.items():
            self.fail(what, times)

    def seconds(self) -> float:
        """From the first call's start to the last one's end; 0 without any."""
        return max((end for _, end in self.spans), default=0.0) - min((begin for begin, _ in self.spans), default=0.0)

    def within(self, begin: float, end: float) -> list[tuple[float, float]]:
        """The calls that ended in this time."""
        return [span for span in self.spans if begin <= span[1] < end]


class Spawners:
    """Small processes, each of which starts one bare interpreter after the other. Use it as a context."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("spawner.py")), *command]
        self._count = count
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for _ in range(self._count):
                process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
                )
                # Leaving a Popen's own context closes the pipes, at which the process ends, and waits for it.
                self._processes.append(stack.enter_context(process))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, begin: float, end: float) -> Calls:
        """All of them, from one moment to the other, on the monotonic clock. What runs at the end is waited for."""
        return self._tell([f"{begin} {end}"] * self._count)

    def run_count(self, total: int) -> Calls:
        """All of them at once, `total` times together."""
        share, rest = divmod(total, self._count)
        counts = [share + (number < rest) for number in range(self._count)]
        return self._tell([f"{time.monotonic()} inf {count}" for count in counts])

    def _tell(self, lines: Sequence[str]) -> Calls:
        calls = Calls()
        for process, line in zip(self._processes, lines, strict=True):
            assert process.stdin is not None
            process.stdin.write(line + "\n")
        for process in self._processes:
            assert process.stdout is not None
            cpu, failed, *moments = process.stdout.readline().split()
            calls.own_cpu_s += float(cpu)
            if int(failed):
                calls.fail("bare interpreter failed", int(failed))
            numbers = [float(moment) for moment in moments]
            calls.spans += zip(numbers[::2], numbers[1::2], strict=True)
        return calls
