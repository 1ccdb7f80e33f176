"""`isol8 doctor`: what this machine can run."""

from __future__ import annotations

import argparse

from isol8.config import load_config
from isol8.runtimes.registry import RUNTIMES, find_installed


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each runtime; the answer is 1 when one is missing."""
    installed = find_installed(load_config(arguments.config).data_dir)
    for name, runtime in RUNTIMES.items():
        install = installed.get(name)
        state = f"{install.version:<10} {install.executable}" if install else f"missing    {runtime.install_hint}"
        print(f"{name:<8} {state}")
    return int(len(installed) < len(RUNTIMES))
