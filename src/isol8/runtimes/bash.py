"""Bash: the machine's own shell."""

from __future__ import annotations

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out
from isol8.runtimes.machine import find_in_usr


class Bash:
    """`bash /sandbox/main.sh`. It starts faster than a worker could take over."""

    name = "bash"
    command = "bash"
    extension = ".sh"
    install_hint = "apt-get install bash"

    def find(self, data_dir: str) -> Install | None:
        return find_in_usr("bash", ["/usr/bin/bash", "/bin/bash"])

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, (), image)

    def boot(self, install: Install) -> Boot:
        return Boot()

    def plan(self, command: Command, install: Install) -> Plan:
        return lay_out(command, install, "bash", extension=self.extension, warm=False)
