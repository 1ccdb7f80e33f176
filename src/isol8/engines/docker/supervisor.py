"""The supervisor of the Docker engine: the one process that may speak to the daemon, which is as good as being root.

Started as `python -m isol8.engines.docker.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from dataclasses import dataclass

from isol8.engines.base import Need
from isol8.engines.docker.client import Place
from isol8.engines.docker.description import LABEL, Making
from isol8.engines.docker.examination import examine
from isol8.engines.docker.owners import owner_label
from isol8.engines.docker.sandboxes import Sandboxes
from isol8.engines.layers import missing, refusal, sentence
from isol8.engines.supervisor import Refused, settle, supervise

_LOG = logging.getLogger("isol8.docker")


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the supervisor. `owner` is the launcher's pid, `client_uid` the API process's user."""

    owner: int
    client_uid: int
    host: str
    context: str
    runtime: str
    image: str
    environment: dict[str, str]
    strict: bool

    def sandboxes(self) -> Sandboxes:
        """Not yet started."""
        labels = {LABEL: owner_label(self.owner)}
        making = Making(self.image, self.runtime, labels, self.environment)
        return Sandboxes(Place(self.host, self.context), making)

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
