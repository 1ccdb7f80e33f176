"""Runtimes that are part of the machine: they must be inside /usr, which is all of the machine a sandbox sees."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator

from isol8.runtimes.base import Install

_VERSION_TIMEOUT_S = 60


def find_in_usr(name: str, well_known: Iterable[str]) -> Install | None:
    """The first of `well_known`, then of the PATH, that really is inside /usr and answers `--version`."""
    for path in (*well_known, *_on_path(name)):
        if not os.access(path, os.X_OK) or not os.path.realpath(path).startswith("/usr/"):
            continue
        version = _ask_version(path)
        if version is not None:
            return Install(executable=path, version=version, prefix=None)
    return None


def _on_path(name: str) -> Iterator[str]:
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if directory.startswith("/usr/"):
            yield os.path.join(directory, name)


def _ask_version(path: str) -> str | None:
    """What `path --version` calls itself, or None when it does not run."""
    try:
        answer = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+(\.\d+)+", answer.stdout)
    return found.group() if answer.returncode == 0 and found else None
