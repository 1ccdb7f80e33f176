"""`isol8 setup`: install the runtimes that the machine does not have."""

from __future__ import annotations

import argparse
import sys

from isol8.config import load_config
from isol8.errors import InvalidRequest
from isol8.runtimes.install import INSTALLABLE, InstallFailed, install
from isol8.runtimes.registry import RUNTIMES, find_installed


def run(arguments: argparse.Namespace) -> int:
    """Install what is asked for, or everything. One failure does not stop the others; the answer is then 1."""
    data_dir = load_config(arguments.config).data_dir
    failed = False
    for name in arguments.runtime or INSTALLABLE:
        try:
            _set_up(name, data_dir)
        except InstallFailed as error:
            print(f"isol8: {name}: {error.message}", file=sys.stderr, flush=True)
            failed = True
    return int(failed)


def _set_up(name: str, data_dir: str) -> None:
    if name in INSTALLABLE:
        install(name, data_dir, _say)
        return
    if name not in RUNTIMES:
        raise InvalidRequest(f"Unknown runtime {name}; there are {', '.join(RUNTIMES)}.")
    if name not in find_installed(data_dir):
        raise InstallFailed(f"part of the machine; install it with: {RUNTIMES[name].install_hint}")
    _say(f"{name} is part of the machine")


def _say(line: str) -> None:
    print(f"isol8: {line}", flush=True)
