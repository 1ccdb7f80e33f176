"""Python: the machine's own interpreter."""

from __future__ import annotations

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
        return find_in_usr("python3", ["/usr/bin/python3"])

    def boot(self, install: Install) -> Boot:
        return Boot(forked=True)

    def plan(self, command: Command, install: Install) -> Plan:
        warm = not (changes_boot(command) or _not_plain_source(command))
        return lay_out(command, install, "python3", extension=self.extension, warm=warm)


def _not_plain_source(command: Command) -> bool:
    """Whether `python3 file` might do something other than compile the file's text and run it."""
    return command.extension not in (None, ".py") or b"\0" in command.source or _ZIP_END in command.source
