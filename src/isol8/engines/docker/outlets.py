"""Ways out of containers: for each a directory of this machine that the container sees, read-only, and in it a unix
socket while an execution has a filtered network.

Whose socket it is, the directory says: no other container is shown it, and nobody else of this machine gets below the
top one, which is this user's alone. So everybody may connect whom it is shown to, whatever user that is in there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile

from isol8.errors import EngineFailure
from isol8.kernel import cgroups

INSIDE = "/run/isol8"  # where a container sees its directory
SOCKET = f"{INSIDE}/out"
_BACKLOG = 1024


def directory() -> str:
    """Where the directories of servers of this user are: short, since a socket's path has a small limit."""
    return "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()


def sweep(owner: int | None = None) -> None:
    """Remove what dead servers have left; or, when `owner` is given, what is that server's."""
    own = f"{cgroups.server_name(owner)}-" if owner else ""
    for name in os.listdir(directory()):
        if name.startswith(own) if own else cgroups.is_stale(name):
            _remove(f"{directory()}/{name}")


class Outlets:
    """Those of the server whose main process is `owner`. `needed`: requests were promised a filtered network. `start`
    it, and `close` it."""

    def __init__(self, owner: int, *, needed: bool) -> None:
        self.needed = needed
        self._owner = owner
        self._top = ""

    def start(self) -> None:
        """Make the top directory. Raises EngineFailure."""
        try:
            sweep()
            self._top = tempfile.mkdtemp(prefix=f"{cgroups.server_name(self._owner)}-", dir=directory())
        except OSError as error:
            raise EngineFailure(f"ways out of containers cannot be made in {directory()}: {error.strerror}") from error

    def make(self, name: str) -> str:
        """The directory of a container that is to be made. Raises EngineFailure."""
        place = f"{self._top}/{name}"
        try:
            os.mkdir(place)
            os.chmod(place, 0o755)
        except OSError as error:
            raise EngineFailure(f"a way out of a container could not be made: {error.strerror}") from error
        return place

    def listen(self, name: str) -> int:
        """A unix socket that the container reaches at SOCKET, and who had the last one does not hear of any more; the
        caller's to close. Raises EngineFailure."""
        path = f"{self._top}/{name}/{os.path.basename(SOCKET)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                if os.path.lexists(path):
                    os.unlink(path)
                listener.bind(path)
                os.chmod(path, 0o666)
                listener.listen(_BACKLOG)
            except OSError as error:
                raise EngineFailure(f"a way out of a container could not be opened: {error.strerror}") from error
            return listener.detach()

    def remove(self, name: str) -> None:
        """Its container is gone. Idempotent."""
        _remove(f"{self._top}/{name}")

    def close(self) -> None:
        """All containers are gone."""
        _remove(self._top)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
