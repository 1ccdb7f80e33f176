"""Python: the machine's own interpreter."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import changes_boot, lay_out, wait_at_program
from isol8.runtimes.machine import find_in_usr

# PEP 263, as CPython reads it: in a comment on one of the first two lines.
_ENCODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*(?!(?i:utf[-_]8)\b)[-\w.]+")
# The end record of a zip archive: `python3 file` runs a file with one as an application.
_ZIP_END = b"PK\x05\x06"


class Python:
    """`python3 /sandbox/main.py`."""

    name = "python"
    command = "python3"
    extension = ".py"
    install_hint = "apt-get install python3"

    def find(self, data_dir: str) -> Install | None:
        install = find_in_usr("python3", ["/usr/bin/python3"])
        return dataclasses.replace(install, packages=_find_packages(install.executable)) if install else None

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, surroundings=image)

    def boot(self, install: Install) -> Boot:
        return wait_at_program(install, "python3", extension=self.extension, pipe=True, forked=True)

    def plan(self, command: Command, install: Install) -> Plan:
        warm = not (changes_boot(command) or _not_plain_source(command))
        return lay_out(command, install, "python3", extension=self.extension, warm=warm)


def _find_packages(executable: str) -> str | None:
    """The first directory of the interpreter's own list for packages that is the administrator's to fill, and there."""
    script = "import site; print(*site.getsitepackages(), sep='\\n')"
    answer = subprocess.run(
        [executable, "-I", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    found = (path for path in answer.stdout.splitlines() if path.startswith("/usr/local/") and os.path.isdir(path))
    return next(found, None)


def _not_plain_source(command: Command) -> bool:
    """Whether `python3 file` might do something other than compile the file's text, which is UTF-8, and run it. To read
    another encoding CPython seeks in the file, and a held interpreter's is a pipe."""
    source = command.source
    named = any(_ENCODING.match(line) for line in source.splitlines()[:2])
    return named or command.extension not in (None, ".py") or b"\0" in source or _ZIP_END in source
