"""Bash: the machine's own shell."""

from __future__ import annotations

import dataclasses

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out, starts_alike, wait_at_program
from isol8.runtimes.machine import find_in_usr
from isol8.runtimes.symbols import find_variables

# When it was started, and how many bytes that is: what `$SECONDS`, `printf '%(%s)T' -2` and a `time` of nothing count
# from. It exports all of its variables, for builtins that can be loaded.
_STAMPS = {"shell_start_time": 8, "shellstart": 16}


class Bash:
    """`bash /sandbox/main.sh`."""

    name = "bash"
    command = "bash"
    extension = ".sh"
    install_hint = "apt-get install bash"

    def find(self, data_dir: str) -> Install | None:
        install = find_in_usr("bash", ["/usr/bin/bash", "/bin/bash"])
        return dataclasses.replace(install, stamps=find_variables(install.executable, _STAMPS)) if install else None

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, surroundings=image)

    def boot(self, install: Install) -> Boot:
        return wait_at_program(install, "bash", extension=self.extension) if install.stamps else Boot()

    def plan(self, command: Command, install: Install) -> Plan:
        warm = bool(install.stamps) and starts_alike(command, self.extension)
        return lay_out(command, install, "bash", extension=self.extension, warm=warm)
