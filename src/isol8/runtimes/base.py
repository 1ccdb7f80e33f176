"""What a runtime is: how one language starts. It knows nothing of isolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isol8.model import Boot, Command, Plan


@dataclass(frozen=True, slots=True)
class Install:
    """Where a runtime is on this machine. `prefix` is a host directory mounted read-only at
    /opt/isol8/<name> in every sandbox; None when it is part of the machine's /usr. `packages` is the directory of a
    sandbox in which the runtime looks for packages by itself; None when there is none to mount over. `stamps`: see
    Boot."""

    executable: str  # path inside the sandbox, e.g. /usr/bin/python3 or /opt/isol8/node/bin/node
    version: str
    prefix: str | None
    packages: str | None = None
    packages_options: tuple[str, ...] = ()  # what must stand before the program's path when there are any
    stamps: tuple[int, ...] = ()
    surroundings: str = ""  # the image that it is in: packages for the same version of another one may not work with it


class Runtime(Protocol):
    """One language."""

    name: str
    command: str  # what it is called in a PATH
    extension: str  # of the program file, with the dot
    install_hint: str  # the command that installs it

    def find(self, data_dir: str) -> Install | None:
        """The runtime on this machine, or None. Reads the file system; called once at start."""

    def inside(self, executable: str, version: str, packages: str, image: str) -> Install:
        """The runtime in an image. `packages`: as in Install; empty is none."""

    def boot(self, install: Install) -> Boot:
        """What should wait in a sandbox that is made for this runtime."""

    def plan(self, command: Command, install: Install) -> Plan:
        """Lay out a command: files, argv, environment, and whether a warm worker serves it exactly."""
