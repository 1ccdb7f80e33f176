"""Every language isol8 knows, by the name that requests use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from isol8.runtimes.base import Install, Runtime
from isol8.runtimes.bash import Bash
from isol8.runtimes.bun import Bun
from isol8.runtimes.deno import Deno
from isol8.runtimes.node import Node
from isol8.runtimes.python import Python

_ALL: tuple[Runtime, ...] = (Python(), Node(), Bun(), Deno(), Bash())

RUNTIMES: Mapping[str, Runtime] = MappingProxyType({runtime.name: runtime for runtime in _ALL})


def find_installed(data_dir: str) -> dict[str, Install]:
    """The runtimes that are on this machine, by name. `data_dir` is the server's data directory. Takes some
    tens of milliseconds: call it once, at start."""
    found = ((runtime.name, runtime.find(data_dir)) for runtime in _ALL)
    return {name: install for name, install in found if install is not None}
