"""The keeper: the one process that may write the store of layers.

It takes in what build sandboxes send, checks layers before they are used, and makes room; store.py does the work. The
API process asks it over a unix socket, a connection for each layer: as long as the connection lasts, the layer is held.
Where the server is root, the keeper owns the store and is a user of its own, who can do nothing else; the API process
and the sandboxes are others. For an ordinary user, Landlock closes everything else to it.

    request   one line of JSON: {"op": "find" or "add", "key"}; for add then pieces: length (4 bytes), bytes; length 0
              is the end
    answer    one line of JSON: {"layer": {"name", "bytes", "about"} or null, "changed"}, or {"rejected"}, or {"error"}

Started as `python -m isol8.packages.keeper LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO

import isol8
from isol8.kernel import peers, privileges
from isol8.kernel.confinement import give_up_rights
from isol8.kernel.signals import settle
from isol8.packages.store import Held, Store
from isol8.packages.unpacking import Bounds, Rejected

_LOG = logging.getLogger("isol8.keeper")
# Below the ids of sandboxes (engines/native/sandboxes.py) and of the proxy, in the same range that nobody hands out.
KEEPER_UID = 1_899_999_998
_KEY = re.compile(r"[a-z0-9][a-z0-9._+-]{0,150}")
_MAX_LINE_BYTES = 64 * 1024
_MAX_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How the launcher wants the keeper. `client_uid` is the API process's user, `owner` the launcher's pid, `uid` the
    user whom root becomes."""

    owner: int
    client_uid: int
    uid: int
    directory: str
    layer_bytes: int
    layer_files: int
    total_bytes: int


class Pieces:
    """Implements `Source` over the pieces that a client sends."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = 0  # of the piece that is being read; -1 after the last one

    def read(self, size: int) -> bytes:
        """See Source."""
        parts = []
        while size:
            if self._left == 0:
                self._next()
            if self._left < 0:
                raise EOFError
            part = self._stream.read(min(size, self._left))
            if not part:
                raise EOFError
            self._left -= len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _next(self) -> None:
        header = self._stream.read(4)
        length = int.from_bytes(header, "big")
        if len(header) < 4 or length > _MAX_PIECE_BYTES:
            raise EOFError
        self._left = length or -1


def _serve(connection: socket.socket, store: Store) -> None:
    """One connection, in a thread of its own."""
    with connection, connection.makefile("rb") as stream:
        held: Held | None = None
        try:
            answer, held = _answer(stream, store)
            connection.sendall(json.dumps(answer).encode() + b"\n")
            # A layer is held until the client lets go; and whoever still sends gets to read that it is refused.
            while stream.read(_MAX_PIECE_BYTES if held is None else 1):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            if held:
                held.close()


def _answer(stream: BinaryIO, store: Store) -> tuple[dict[str, Any], Held | None]:
    request = json.loads(stream.readline(_MAX_LINE_BYTES) or b"{}")
    operation, key = request.get("op"), str(request.get("key"))
    if _KEY.fullmatch(key) is None:
        return {"error": "not a key"}, None
    changed = False
    try:
        if operation == "add":
            held: Held | None = store.add(key, Pieces(stream))
        else:
            held, changed = store.find(key)
    except Rejected as error:
        return {"rejected": str(error)}, None
    except EOFError:
        return {"rejected": "the build ended before its layer was complete"}, None
    except OSError as error:
        _LOG.exception("%s failed", operation)
        return {"error": os.strerror(error.errno or 0)}, None
    if changed:
        _LOG.warning("a layer of %s had been changed, and was removed", key)
    if held is None:
        return {"layer": None, "changed": changed}, None
    stored = held.stored
    layer = {"name": stored.name, "bytes": stored.bytes, "about": stored.about}
    return {"layer": layer, "changed": changed}, held


def _accept(listener: socket.socket, client_uid: int, store: Store) -> None:
    while True:
        connection, _ = listener.accept()
        uid = peers.user_of(connection)
        if uid != client_uid:
            _LOG.warning("a process of user %d was turned away", uid)
            connection.close()
            continue
        threading.Thread(target=_serve, args=(connection, store), daemon=True).start()


def _settle(options: Options) -> None:
    """Go into the store, made if it is not there, and become its owner."""
    os.umask(0o022)
    os.makedirs(options.directory, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(options.directory, options.uid, options.uid)
    os.chdir(options.directory)
    give_up_rights(options.uid, {"/usr", sys.prefix, os.path.dirname(isol8.__file__)}, {options.directory})


def main() -> None:
    """Entry point of the keeper process."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    options = Options(**json.loads(sys.argv[2]))
    settle()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _settle(options)
    except OSError as error:
        sys.stderr.write(f"isol8: the store of packages at {options.directory} cannot be used: {error.strerror}\n")
        sys.exit(1)
    # A killed keeper leaves a half-made layer at worst, which the next one removes.
    privileges.die_with_parent(signal.SIGKILL)
    if os.getppid() != options.owner:
        return
    store = Store(Bounds(options.layer_bytes, options.layer_files, options.total_bytes))
    for name in store.clear():
        _LOG.info("removed what a killed build left: %s", name)
    _accept(listener, options.client_uid, store)


if __name__ == "__main__":
    main()
