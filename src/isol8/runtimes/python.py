"""Python: the machine's own interpreter."""

from __future__ import annotations

import dataclasses
import os
import subprocess

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import changes_boot, lay_out
from isol8.runtimes.machine import find_in_usr

# The end record of a zip archive: `python3 file` runs a file with one as an application.
_ZIP_END = b"PK\x05\x06"


class Python:
    """`python3 /sandbox/main.py`."""

    name = "python"
    extension = ".py"
    install_hint = "apt-get install python3"

    def find(self, data_dir: str) -> Install | None:
        install = find_in_usr("python3", ["/usr/bin/python3"])
        return dataclasses.replace(install, packages=_find_packages(install.executable)) if install else None

    def boot(self, install: Install) -> Boot:
        return Boot(forked=True)

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
    """Whether `python3 file` might do something other than compile the file's text and run it."""
    return command.extension not in (None, ".py") or b"\0" in command.source or _ZIP_END in command.source
