"""Bun, in the data directory."""

from __future__ import annotations

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out, starts_alike, wait_at_program
from isol8.runtimes.prefixes import find_prefix


class Bun:
    """`bun /sandbox/main.ts`."""

    name = "bun"
    command = "bun"
    extension = ".ts"
    install_hint = "isol8 setup --runtime bun"

    def find(self, data_dir: str) -> Install | None:
        return find_prefix(self.name, data_dir, packages="/node_modules")

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, surroundings=image)

    def boot(self, install: Install) -> Boot:
        # The first time is to see whether there is such a file at all.
        return wait_at_program(install, "bun", extension=self.extension, opens=2)

    def plan(self, command: Command, install: Install) -> Plan:
        # Files beside the program may be settings, which are read before it.
        warm = starts_alike(command, self.extension) and not command.files
        return lay_out(command, install, "bun", extension=self.extension, warm=warm)
