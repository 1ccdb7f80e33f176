"""The supervisor of the gVisor engine.

Started as `python -m isol8.engines.gvisor.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass
from typing import Any

from isol8.engines.gvisor.examination import examine
from isol8.engines.gvisor.sandboxes import Sandboxes
from isol8.engines.supervisor import opened, supervise
from isol8.kernel.cgroups import Hierarchy
from isol8.kernel.signals import settle


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the supervisor. `options` are runsc's own; `hierarchy` the fields of a Hierarchy."""

    owner: int
    client_uid: int
    strict: bool
    hierarchy: dict[str, Any]
    runsc: str
    options: list[str]
    prefixes: dict[str, str]
    environment: dict[str, str]

    def sandboxes(self) -> Sandboxes:
        """Not yet started."""
        return Sandboxes(
            self.owner, Hierarchy(**self.hierarchy), self.runsc, self.options, self.prefixes, self.environment
        )

    async def open(self) -> Sandboxes:
        """Sandboxes that are ready to be made. Raises EngineFailure."""
        return await opened(self.sandboxes(), examine, strict=self.strict)


def main() -> None:
    """Entry point of the supervisor process."""
    options = Options(**json.loads(sys.argv[2]))
    settle()
    supervise(socket.socket(fileno=int(sys.argv[1])), options.owner, options.client_uid, options.open)


if __name__ == "__main__":
    main()
