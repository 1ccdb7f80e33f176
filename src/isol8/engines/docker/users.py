"""User ids of sandboxes. An image must know their names (/etc/passwd), so there is a fixed block of them.

Every live sandbox of a server has its own, so that what the kernel counts by user (inotify instances, pending signals,
message queues) is not shared. Two servers on one daemon may give out the same: they start at different places.
"""

from __future__ import annotations

import os
from collections import deque

from isol8.errors import EngineFailure

FIRST = 1_900_000_000  # where the native engine's block begins too: unused by anybody (systemd, UIDS-GIDS)
COUNT = 1024


class Users:
    """Those that are free."""

    def __init__(self) -> None:
        self._free = deque(range(FIRST, FIRST + COUNT))
        self._free.rotate(os.getpid() * 61)

    def take(self) -> int:
        """One that is not in use; the longest unused first. Raises EngineFailure when there is none."""
        if not self._free:
            raise EngineFailure(f"this engine makes at most {COUNT} sandboxes at once")
        return self._free.popleft()

    def claim(self, uid: int) -> bool:
        """Take this very one. False when it is in use, or none of a sandbox's."""
        try:
            self._free.remove(uid)
        except ValueError:
            return False
        return True

    def give_back(self, uid: int) -> None:
        """Its sandbox is gone."""
        self._free.append(uid)


def passwd() -> str:
    """/etc/passwd of an image."""
    own = "".join(f"sandbox{uid - FIRST}:x:{uid}:{uid}::/sandbox:/bin/bash\n" for uid in range(FIRST, FIRST + COUNT))
    return f"root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n{own}"


def group() -> str:
    """/etc/group of an image."""
    own = "".join(f"sandbox{uid - FIRST}:x:{uid}:\n" for uid in range(FIRST, FIRST + COUNT))
    return f"root:x:0:\nnogroup:x:65534:\n{own}"
