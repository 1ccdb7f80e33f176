"""The supervisor of the gVisor engine.

Started as `python -m isol8.engines.gvisor.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from dataclasses import dataclass
from typing import Any

from isol8.engines.base import Need
from isol8.engines.gvisor.examination import examine
from isol8.engines.gvisor.sandboxes import Sandboxes
from isol8.engines.layers import missing, refusal, sentence
from isol8.engines.supervisor import Refused, settle, supervise
from isol8.kernel.cgroups import Hierarchy

_LOG = logging.getLogger("isol8.gvisor")


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
        """Sandboxes that are ready to be made. Raises EngineFailure, Refused."""
        sandboxes = self.sandboxes()
        await sandboxes.start()
        try:
            found = await examine(sandboxes)
            lacking = missing(found, {Need.EXTRA} if self.strict else {Need.STRICT, Need.EXTRA})
            if lacking:
                raise Refused(refusal(lacking, self.strict))
        except BaseException:
            await sandboxes.close()
            raise
        for layer in found:
            if not layer.enforced:
                _LOG.warning("%s", sentence(layer))
        return sandboxes


def main() -> None:
    """Entry point of the supervisor process."""
    options = Options(**json.loads(sys.argv[2]))
    settle()
    supervise(socket.socket(fileno=int(sys.argv[1])), options.owner, options.client_uid, options.open)


if __name__ == "__main__":
    main()
