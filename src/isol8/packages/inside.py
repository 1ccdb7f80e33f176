"""Runs in a build sandbox: the installer, and then the tree that it made, as a stream on standard output.

Install scripts run in the same sandbox as the same user, so nothing that comes out of it is to be believed, this
program's part included: whoever reads the stream checks it (store.py). Standard library only; it is sent as text.

    entry  = kind (1 byte) path length (2) content length (8) path content
    kinds    a  what the packages are like, as JSON    d  directory     f  file     x  executable file
             l  symbolic link; its target              e  the end

Integers are big-endian, paths relative, with `/` between their parts; parents come before what is in them.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 20
_BOOTS = ("sitecustomize", "usercustomize")


def main() -> int:
    """Carry out the order in argv[1]; the exit status is the installer's."""
    order = json.loads(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)
    for path in order["directories"]:
        os.makedirs(path, exist_ok=True)
    for argv in order["steps"]:
        code = subprocess.call(argv, cwd=order["cwd"], env=order["env"], stdin=subprocess.DEVNULL)
        if code:
            return code if code > 0 else 128 - code
    sys.stderr.write("Packing\n")
    with os.fdopen(out, "wb") as stream:
        about = _about_python(order["tree"], order["names"]) if order["python"] else {}
        _entry(stream, b"a", "", json.dumps(about).encode())
        _pack(stream, order["tree"])
        _entry(stream, b"e", "", b"")
    return 0


def _about_python(tree: str, names: list[str]) -> dict[str, Any]:
    """Which modules the packages of these names bring, and whether the interpreter must see the layer as it boots."""
    wanted = set(names)
    modules: set[str] = set()
    for distribution in distributions(path=[tree]):
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-")
        if name in wanted:
            modules |= _top_level(distribution)
    entries = os.listdir(tree)
    boots = any(entry.endswith(".pth") or entry.split(".")[0] in _BOOTS for entry in entries)
    return {"boots": boots, "modules": sorted(modules)}


def _top_level(distribution: Distribution) -> set[str]:
    declared = distribution.read_text("top_level.txt")
    if declared is not None:
        names = {line.strip() for line in declared.splitlines()}
    else:
        names = set()
        for path in distribution.files or ():
            first = path.parts[0]
            if len(path.parts) == 2 and path.name == "__init__.py":
                names.add(first)
            elif len(path.parts) == 1 and first.endswith((".py", ".so")):
                names.add(first.split(".")[0])
    return {name for name in names if name.isidentifier() and not name.startswith("_")}


def _pack(stream: BinaryIO, tree: str) -> None:
    for directory, names, files in os.walk(tree):
        names.sort()
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, tree)
            if stat.S_ISDIR(status.st_mode):
                _entry(stream, b"d", relative, b"")
            elif stat.S_ISLNK(status.st_mode):
                _entry(stream, b"l", relative, os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(status.st_mode):
                _file(stream, b"x" if status.st_mode & 0o100 else b"f", relative, path, status.st_size)


def _file(stream: BinaryIO, kind: bytes, relative: str, path: str, size: int) -> None:
    """What the file holds now; exactly `size` bytes, whatever happens to it meanwhile."""
    _head(stream, kind, relative, size)
    with open(path, "rb") as file:
        while size:
            chunk = file.read(min(_CHUNK_BYTES, size)) or bytes(min(_CHUNK_BYTES, size))
            stream.write(chunk)
            size -= len(chunk)


def _entry(stream: BinaryIO, kind: bytes, relative: str, content: bytes) -> None:
    _head(stream, kind, relative, len(content))
    stream.write(content)


def _head(stream: BinaryIO, kind: bytes, relative: str, size: int) -> None:
    path = os.fsencode(relative)
    stream.write(kind + len(path).to_bytes(2, "big") + size.to_bytes(8, "big") + path)


if __name__ == "__main__":
    sys.exit(main())
