"""What the supervisor asks a zygote for.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import _socket
import sys

from isol8.runner.frames import pack_fields, unpack_fields
from isol8.runner.holding import Boot

READY_BY_TABLE, READY_IN_PYTHON = b"by table", b"in Python"  # what a zygote says first
ANSWER_BYTES = 8  # the number of process 1, or of an error, below zero
PROGRAM = "/sandbox/main.py"
OWN_ARGUMENTS = [b"python3", PROGRAM.encode()]


class Request:
    """What the supervisor asks for: fields and descriptors of one sandbox. Without descriptors it is for a rehearsal:
    of the runner and the interpreter alone, not of packages, which are foreign code."""

    def __init__(self, payload: bytes, descriptors: list[int] | None) -> None:
        fields = unpack_fields(payload)
        raw = dict(fields)
        single = {key: value.decode() for key, value in fields if key not in ("words", "leaving")}
        targets = [value.decode() for key, value in fields if key == "target" and descriptors]
        self.stream, *others = descriptors or [-1]
        # What is a copy's alone, when there is an interpreter to be copied, and where to ask for it.
        self.words = raw["words"] if descriptors else b""
        self.template = others.pop(0) if self.words else -1
        # How that interpreter's end is known, if it is; see leaving.py.
        self.leaving = raw.get("leaving", b"")
        self.cgroups = others[: len(others) - len(targets)]
        # Mounts that are nowhere yet, and where each belongs.
        self.mounts = list(zip(others[len(self.cgroups) :], targets, strict=True))
        self.uid = int(single["uid"])
        # Whether its user has to be made by a user namespace; until then it is this process's own.
        self.alone = bool(single["alone"])
        self.sandbox_bytes = int(single["sandbox"])
        self.tmp_bytes = int(single["tmp"])
        self.resolver = single["resolver"]
        self.network = single["network"]
        # What a policy of relaxed isolation goes without where this machine has no means for it.
        self.without = single["without"].split()
        # Imported ahead of time, by the worker: packages are foreign code, and this process is root.
        self.modules = [value.decode() for key, value in fields if key == "module" and descriptors]
        forked = single["forked"] == "1"
        argv = OWN_ARGUMENTS if forked else [value for key, value in fields if key == "argv"]
        stamps = [int(value) for key, value in fields if key == "stamp"]
        executable, path, opens = single["executable"], single["path"], int(single["opens"])
        self.boot = Boot(executable, argv, path, opens, stamps, forked=forked)


def plain_request() -> Request:
    """One without anything that only some sandboxes have."""
    names = ("uid", "sandbox", "tmp", "opens", "alone", "resolver", "network", "without", "executable", "path")
    numbers = names[:4]
    fields = [(name, b"0" if name in numbers else b"") for name in names]
    return Request(pack_fields([*fields, ("forked", b"1")]), None)


def descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what recvmsg gave."""
    found = []
    for _, kind, data in ancillary:
        if kind == _socket.SCM_RIGHTS:
            found += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
    return found
