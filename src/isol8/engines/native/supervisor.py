"""The supervisor of the native engine. It owns zygotes, cgroups and sandboxes.

Sandboxes are its own children (`zygote.py`: CLONE_PARENT): it has a pidfd for each, reaps each, and removes what it
held. When the supervisor itself is killed, the kernel kills the zygotes and sandboxes (parent-death signals), and the
launcher sweeps the cgroups (`isol8/launcher.py`).

At every start it finds out which isolation layers hold (`examination.py`), and refuses to go on with less than the
policy asks for.

Started as `python -m isol8.engines.native.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from isol8.engines.directories import Directories
from isol8.engines.native.examination import prepare
from isol8.engines.native.sandboxes import Means, Sandboxes
from isol8.engines.native.unprivileged import Standing, take_standing
from isol8.engines.supervisor import insist, supervise
from isol8.errors import EngineFailure
from isol8.kernel.cgroups import Hierarchy
from isol8.kernel.page_cache import reading_anew
from isol8.kernel.signals import settle

_LONGEST_READING_S = 5.0  # of the interpreters; no start waits longer for what only makes them faster


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the supervisor. `client_uid` is the API process's user; `owner` the launcher's pid;
    `strict` whether every isolation layer must hold; `hierarchy` the fields of a Hierarchy: the cgroups to use;
    `layers` and `directories` see Directories."""

    owner: int
    client_uid: int
    strict: bool
    hierarchy: dict[str, Any]
    python: str
    prefixes: dict[str, str]
    environment: dict[str, str]
    layers: str = ""
    directories: dict[str, str] = field(default_factory=dict)

    async def open(self, standing: Standing) -> Sandboxes:
        """Sandboxes that are ready to be made. Raises EngineFailure."""
        # Before the first of them is started: what a process has mapped stays as it is.
        with reading_anew([f"{prefix}/bin/{name}" for name, prefix in self.prefixes.items()], _LONGEST_READING_S):
            sandboxes, found = await prepare(self._make, self.owner, Hierarchy(**self.hierarchy), standing)
        try:
            insist(found, strict=self.strict)
        except EngineFailure:
            if sandboxes:
                await sandboxes.close()
            raise
        assert sandboxes is not None, "without sandboxes a layer is missing that must always hold"
        return sandboxes

    def _make(self, means: Means) -> Sandboxes:
        directories = Directories(self.layers, self.directories)
        return Sandboxes(self.owner, self.python, self.prefixes, self.environment, means, directories)


def main() -> None:
    """Entry point of the supervisor process."""
    options = Options(**json.loads(sys.argv[2]))
    settle()
    standing = take_standing()
    listener = socket.socket(fileno=int(sys.argv[1]))
    supervise(listener, options.owner, options.client_uid, lambda: options.open(standing))


if __name__ == "__main__":
    main()
