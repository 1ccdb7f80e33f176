"""How the server's processes that need no rights give theirs up."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from isol8.kernel import landlock, privileges

_LOG = logging.getLogger("isol8")


def give_up_rights(user: int, readable: Collection[str], writable: Collection[str] = ()) -> None:
    """Keep nothing that an attacker in this process could use. Raises OSError; the caller must not go on then.

    Root becomes `user`, who owns nothing. An ordinary user cannot become another one: Landlock closes the files to the
    process, but for reading what is below `readable` and all use of what is below `writable`, and keeps it from tracing
    and (Linux 6.12) signalling others. Where the kernel has no Landlock, the log says so: it is no layer of a sandbox.
    """
    if os.geteuid() == 0:
        privileges.empty_bounding_set()
        privileges.drop_to(user, user)
    else:
        privileges.give_up_capabilities()
        privileges.forbid_new_privileges()
        _close_files(readable, writable)
    privileges.set_dumpable(False)


def _close_files(readable: Collection[str], writable: Collection[str]) -> None:
    rights = dict.fromkeys(readable, landlock.READ) | dict.fromkeys(writable, landlock.ALL)
    present = {path: allowed for path, allowed in rights.items() if os.path.exists(path)}
    try:
        ruleset = landlock.ruleset_of(present)
        landlock.restrict(ruleset)
        os.close(ruleset)
    except OSError as error:
        _LOG.warning("process %d keeps its user's rights to files: no Landlock (%s)", os.getpid(), error.strerror)
