"""The runner as one message: modules and settings, and the command line that takes them from standard input."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

# In the order in which they import each other.
_MODULES = (
    "isol8.kernel.syscalls",
    "isol8.kernel.signals",
    "isol8.kernel.privileges",
    "isol8.kernel.pipe_gates",
    "isol8.runner.frames",
    "isol8.runner.files",
    "isol8.runner.worker",
    "isol8.runner.program",
    "isol8.runner.resumption",
    "isol8.runner.relay",
    "isol8.runner.stamps",
    "isol8.runner.ends",
    "isol8.runner.holding",
    "isol8.runner.waiting",
    "isol8.runner.loop",
    "isol8.engines.inside",
)
_SIZE_BYTES = 4

# Reads a JSON object (its size first), makes modules of its sources, and calls the last one's main.
_LOADER = """\
import json, os, sys
def take(size):
    data = b''
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more: sys.exit(0)
        data += more
    return data
given = json.loads(take(int.from_bytes(take(4), 'big')))
for name, source in given['modules']:
    parts = name.split('.')
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault('.'.join(parts[:end]), type(sys)('.'.join(parts[:end])))
    module, parent = sys.modules[name], sys.modules['.'.join(parts[:-1])]
    setattr(parent, parts[-1], module)
    exec(compile(source, name, 'exec'), module.__dict__)
module.main(given['settings'])
"""
# -I -S: nothing of the image's or the user's is imported but the standard library.
COMMAND = ("python3", "-I", "-S", "-c", _LOADER)


@cache
def _sources() -> list[tuple[str, str]]:
    found = []
    for name in _MODULES:
        _, *packages, module = name.split(".")
        found.append((name, resources.files("isol8").joinpath(*packages, f"{module}.py").read_text()))
    return found


def preload() -> None:
    """Read the sources now: later this process may have no right to."""
    _sources()


def version() -> str:
    """What tells one release's runner from another's."""
    return hashlib.sha256(json.dumps(_sources()).encode()).hexdigest()[:16]


def pack(settings: dict[str, Any]) -> bytes:
    """What goes into the standard input of `COMMAND`, before any frame. `settings`: see `inside.py`."""
    content = json.dumps({"modules": _sources(), "settings": settings}).encode()
    return len(content).to_bytes(_SIZE_BYTES, "big") + content
