"""A stream of entries becoming a directory tree.

What comes in is the work of untrusted code. It is a list of entries in a format of our own (inside.py), of which every
length is bounded; each path is relative, plain, new, and in a directory that an earlier entry made, so nothing can be
written outside of the tree, or through a link. Links are kept only if they lead to somewhere in the tree. There are
files, executable files, directories and links; modes and owners are ours.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Protocol

TREE = "tree"
MAX_ABOUT_BYTES = 64 * 1024
_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 4096
_MAX_PATH_BYTES = 1024
_MAX_NAME_BYTES = 255
_HEAD_BYTES = 11


class Rejected(Exception):
    """What came in is not a layer, or is too large. The text may be shown to the caller."""


class Source(Protocol):
    """Where entries come from."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises EOFError when there are fewer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one layer, and that all layers together, may take on disk."""

    layer_bytes: int
    layer_files: int
    total_bytes: int


class Unpacking:
    """One stream of entries becoming the tree at `top`."""

    def __init__(self, top: str, source: Source, bounds: Bounds) -> None:
        self._top = top
        self._source = source
        self._bounds = bounds
        self._directories = {""}
        self._bytes = 0
        self._files = 0
        self._about: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Read to the end. What there is to be noted about the layer."""
        while True:
            head = self._source.read(_HEAD_BYTES)
            kind, size = head[:1], int.from_bytes(head[3:], "big")
            path = self._source.read(int.from_bytes(head[1:3], "big"))
            if kind == b"e":
                os.utime(self._top)  # a directory mounted over another one is told apart by its time
                return {"bytes": self._bytes, "files": self._files, "about": self._about}
            if kind == b"a":
                self._about = self._read_about(size)
                continue
            self._place(kind, self._checked_path(path), size)

    def _read_about(self, size: int) -> dict[str, Any]:
        if size > MAX_ABOUT_BYTES:
            raise Rejected("the build said too much about itself")
        try:
            about = json.loads(self._source.read(size))
        except ValueError:
            raise Rejected("the build sent what is not a layer") from None
        if not isinstance(about, dict):
            raise Rejected("the build sent what is not a layer")
        return about

    def _checked_path(self, path: bytes) -> str:
        """Where an entry goes. Its directory is one that we have made, so no link is on the way."""
        parts = path.split(b"/")
        if len(path) > _MAX_PATH_BYTES or any(
            part in (b"", b".", b"..") or b"\0" in part or len(part) > _MAX_NAME_BYTES for part in parts
        ):
            raise Rejected("a package has a file whose path is not allowed")
        parent, _, _ = (text := os.fsdecode(path)).rpartition("/")
        if parent not in self._directories:
            raise Rejected("a package has a file whose path is not allowed")
        return text

    def _place(self, kind: bytes, path: str, size: int) -> None:
        self._files += 1
        self._bytes += -(-size // _BLOCK_BYTES) * _BLOCK_BYTES + (_BLOCK_BYTES if kind == b"d" else 0)
        if self._files > self._bounds.layer_files:
            raise Rejected(f"the packages have more than {self._bounds.layer_files} files (packages.layerFiles)")
        if self._bytes > self._bounds.layer_bytes:
            raise Rejected("the packages are larger than a layer may be (packages.layerSize)")
        target = f"{self._top}/{path}"
        try:
            if kind == b"d":
                os.mkdir(target, 0o755)
                self._directories.add(path)
            elif kind == b"l":
                self._link(path, target, size)
            elif kind in (b"f", b"x"):
                self._write(target, size, 0o755 if kind == b"x" else 0o644)
            else:
                raise Rejected("the build sent what is not a layer")
        except FileExistsError:
            raise Rejected("a package has two files of one path") from None

    def _link(self, path: str, target: str, size: int) -> None:
        if size > _MAX_PATH_BYTES:
            raise Rejected("a package has a link that leads out of it")
        leads_to = os.fsdecode(self._source.read(size))
        inside = os.path.normpath(f"/{TREE}/{os.path.dirname(path)}/{leads_to}")
        if not leads_to or "\0" in leads_to or leads_to.startswith("/") or not inside.startswith(f"/{TREE}/"):
            raise Rejected("a package has a link that leads out of it")
        os.symlink(leads_to, target)

    def _write(self, target: str, size: int, mode: int) -> None:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            while size:
                chunk = self._source.read(min(size, _CHUNK_BYTES))
                file.write(chunk)
                size -= len(chunk)
