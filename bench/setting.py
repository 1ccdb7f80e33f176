"""What every part of a run is given: how much to measure, of which runtimes, and the way to a server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.bare import PROGRAMS, hello_command
from isol8.runtimes.base import Install
from tests.support.server import Server, serving


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults make a whole run of some eight minutes on two cores."""

    pairs: int = 300  # paced calls of each kind
    calls: int = 100  # paced calls where nothing is beside them
    seconds: float = 30.0  # of counted throughput, of ours, for each number of clients
    clients: tuple[int, ...] = (8, 64)
    sessions: int = 1000
    soak: int = 6_000
    idle_s: float = 10.0
    largest_file: int = 100_000_000


QUICK = Sizes(pairs=60, calls=40, seconds=4.0, clients=(8,), sessions=50, soak=1000, idle_s=2.0, largest_file=1_000_000)


@dataclass(frozen=True)
class Setting:
    """`installed` are the runtimes to measure. `say` prints a line of progress."""

    sizes: Sizes
    installed: Mapping[str, Install]
    say: Callable[[str], None]

    def bare(self, runtime: str) -> list[str]:
        """The command of the bare reference."""
        return hello_command(runtime, self.installed[runtime])

    @staticmethod
    def code(runtime: str) -> str:
        """The program that prints hello."""
        return PROGRAMS[runtime][0]

    @contextmanager
    def serving(self, **config: Any) -> Iterator[Server]:
        """A fresh server with the settings of a fresh installation, but for those given."""
        with tempfile.TemporaryDirectory() as directory, serving(Path(directory), {"pool": {}} | config) as server:
            yield server
