"""Bun, in the data directory."""

from __future__ import annotations

from isol8.model import Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out
from isol8.runtimes.prefixes import find_prefix


class Bun:
    """`bun /sandbox/main.ts`."""

    name = "bun"
    extension = ".ts"
    install_hint = "isol8 setup --runtime bun"

    def find(self, data_dir: str) -> Install | None:
        return find_prefix(self.name, data_dir)

    def boot(self, install: Install) -> Boot:
        return Boot()

    def plan(self, command: Command, install: Install) -> Plan:
        return lay_out(command, install, "bun", extension=self.extension, warm=False)
