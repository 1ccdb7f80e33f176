"""User ids for sandboxes: which there are, and who has which."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from isol8.errors import EngineFailure


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids from `first` on, in blocks of `per_server`: each server that shares the range takes one block. `claim` names
    the range on this machine."""

    first: int
    per_server: int
    blocks: int
    claim: str


# Ids that no distribution, container runtime or systemd hands out (systemd's docs/UIDS-GIDS.md: the range from
# 1879048192 to 2147483647 is unused).
FIRST = 1_900_000_000
PROBE = FIRST - 1  # what is tried before there is a sandbox has this one
OF_THE_MACHINE = IdRange(FIRST, 65_536, 1_000, "isol8-user-ids")


class UserIds:
    """User ids for sandboxes, never two live ones the same, also among servers of one machine. `close` when done."""

    def __init__(self, ids: IdRange) -> None:
        # An abstract socket's name is free again the moment its owner dies, however it dies.
        self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for block in range(ids.blocks):
            try:
                self._claim.bind(f"\0{ids.claim}-{block}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    self._claim.close()
                    raise
                continue
            self._first = ids.first + block * ids.per_server
            break
        else:
            self._claim.close()
            raise EngineFailure("too many isol8 servers share one range of user ids")
        self._size = ids.per_server
        self._next = 0
        self._used: set[int] = set()

    def take(self) -> int:
        """A user id that is not in use; the longest unused first."""
        for _ in range(self._size):
            uid = self._first + self._next
            self._next = (self._next + 1) % self._size
            if uid not in self._used:
                self._used.add(uid)
                return uid
        raise EngineFailure("every user id of this server is in use")

    def give_back(self, uid: int) -> None:
        """Its sandbox is gone, with all its processes."""
        self._used.discard(uid)

    def close(self) -> None:
        """Leave the block to others. No sandbox may be left."""
        self._claim.close()


class OneUser:
    """For a server that has no user id to give: outside, every sandbox is the server's own user. Inside it is called
    the same everywhere, so that nothing looks like more than it is."""

    def take(self) -> int:
        """What the user is called inside."""
        return FIRST

    def give_back(self, uid: int) -> None:
        """Nothing was taken."""

    def close(self) -> None:
        """Nothing is held."""
