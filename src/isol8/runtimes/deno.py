"""Deno, in the data directory."""

from __future__ import annotations

import dataclasses

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out, starts_alike, wait_at_program
from isol8.runtimes.prefixes import find_prefix

# Otherwise it would look into a cache of its own, and for a package.json.
_OPTIONS = ("--node-modules-dir=manual",)


class Deno:
    """`deno run -A /sandbox/main.ts`: all permissions, since the sandbox is the boundary."""

    name = "deno"
    command = "deno"
    extension = ".ts"
    install_hint = "isol8 setup --runtime deno"

    def find(self, data_dir: str) -> Install | None:
        install = find_prefix(self.name, data_dir, packages="/node_modules")
        return dataclasses.replace(install, packages_options=_OPTIONS) if install else None

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, _OPTIONS, surroundings=image)

    def boot(self, install: Install) -> Boot:
        return wait_at_program(install, "deno", "run", "-A", extension=self.extension)

    def plan(self, command: Command, install: Install) -> Plan:
        # Files beside the program may be settings, which are read before it.
        warm = starts_alike(command, self.extension) and not command.files
        return lay_out(command, install, "deno", "run", "-A", extension=self.extension, warm=warm)
