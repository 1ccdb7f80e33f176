"""The supervisor of the Docker engine: the one process that may speak to the daemon, which is as good as being root.

Started as `python -m isol8.engines.docker.supervisor LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import dataclass, field

from isol8.engines.directories import Directories
from isol8.engines.docker.client import Place
from isol8.engines.docker.description import LABEL, Making
from isol8.engines.docker.examination import examine
from isol8.engines.docker.outlets import Outlets
from isol8.engines.docker.owners import machine, owner_label
from isol8.engines.docker.records import records_in
from isol8.engines.docker.sandboxes import Sandboxes
from isol8.engines.supervisor import opened, supervise
from isol8.kernel.signals import settle


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the supervisor. `owner` is the launcher's pid, `client_uid` the API process's user;
    `way_out` whether containers may have a filtered network, and `filtered` whether requests may ask for one, so that
    the server does not start where there is none; `layers` and `directories` see Directories. `home` is the directory
    in which is noted down what outlives a crash (empty: nothing), `patience_s` how long that waits."""

    owner: int
    client_uid: int
    host: str
    context: str
    runtime: str
    image: str
    environment: dict[str, str]
    strict: bool
    home: str
    patience_s: float
    way_out: bool = False
    filtered: bool = False
    layers: str = ""
    directories: dict[str, str] = field(default_factory=dict)

    def sandboxes(self) -> Sandboxes:
        """Not yet started."""
        labels = {LABEL: owner_label(self.owner)}
        making = Making(self.image, self.runtime, labels, self.environment)
        ways = Outlets(self.owner, needed=self.filtered) if self.way_out else None
        directories = Directories(self.layers, self.directories)
        records = records_in(self.home, machine())
        return Sandboxes(Place(self.host, self.context), making, ways, directories, records, self.patience_s)

    async def open(self) -> Sandboxes:
        """Sandboxes that are ready to be made, and those that were left. Raises EngineFailure."""
        sandboxes = await opened(self.sandboxes(), examine, strict=self.strict)
        try:
            await sandboxes.take_over()
        except BaseException:
            await sandboxes.close()
            raise
        return sandboxes


def main() -> None:
    """Entry point of the supervisor process."""
    options = Options(**json.loads(sys.argv[2]))
    settle()
    supervise(socket.socket(fileno=int(sys.argv[1])), options.owner, options.client_uid, options.open)


if __name__ == "__main__":
    main()
