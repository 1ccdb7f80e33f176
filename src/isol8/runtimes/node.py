"""Node.js, with npm, in the data directory."""

from __future__ import annotations

from isol8.model import SANDBOX_DIR, Boot, Command, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.layout import lay_out, starts_alike, wait_at_program
from isol8.runtimes.prefixes import find_prefix

# Node looks for the nearest one above a `.js` file to decide between CommonJS and ES modules.
_PACKAGE_FILES = ("/package.json", f"{SANDBOX_DIR}/package.json")


class Node:
    """`node /sandbox/main.js`."""

    name = "node"
    command = "node"
    extension = ".js"
    install_hint = "isol8 setup --runtime node"

    def find(self, data_dir: str) -> Install | None:
        return find_prefix(self.name, data_dir, packages="/node_modules")

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        return Install(executable, version, None, packages or None, surroundings=image)

    def boot(self, install: Install) -> Boot:
        return wait_at_program(install, "node", extension=self.extension, pipe=True, copied=True)

    def plan(self, command: Command, install: Install) -> Plan:
        warm = starts_alike(command, self.extension) and not any(path in command.files for path in _PACKAGE_FILES)
        return lay_out(command, install, "node", extension=self.extension, warm=warm)
