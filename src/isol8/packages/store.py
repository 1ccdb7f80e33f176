"""Layers on disk: taking in what a build sandbox sends, keeping it, checking it, and making room.

    <store>/<key>-<digest>/tree         what sandboxes see
    <store>/<key>-<digest>/layer.json   {"bytes", "files", "about": what the builder said, checked}
    <store>/.making-<random>/           a layer that is coming in; locked by whoever makes it

The digest is that of everything in the tree, so a layer that was changed no longer has its name's. A layer in use has
a shared lock (flock) on its directory, which the kernel takes away when the holder dies; only one that can be locked
exclusively is ever removed. A layer appears by a rename, complete or not at all.

What comes in is the work of untrusted code: unpacking.py.

Everything here blocks. Paths are relative to the working directory, which is the store (keeper.py).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isol8.packages.unpacking import MAX_ABOUT_BYTES, TREE, Bounds, Rejected, Source, Unpacking

_ABOUT = "layer.json"
_MAKING = ".making-"
_DIGEST_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Stored:
    """A layer in the store. `bytes` is what it takes on disk; `about` what its builder said of it."""

    name: str
    bytes: int
    about: dict[str, Any]


class Held:
    """A layer that cannot be removed until `close`."""

    def __init__(self, stored: Stored, descriptor: int) -> None:
        self.stored = stored
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of it. Call once."""
        os.close(self._descriptor)


class Store:
    """The store in the working directory. Threads may share it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._placing = threading.Lock()
        self._checked: set[str] = set()  # names of layers whose digest was right since this process began

    def clear(self) -> list[str]:
        """Remove what killed builds left; the names. What another server is making stays."""
        left = [name for name in os.listdir(".") if name.startswith(_MAKING)]
        return [name for name in left if _remove(name)]

    def find(self, key: str) -> tuple[Held | None, bool]:
        """The layer with this key, held, or None; and whether one was found that had been changed, and was removed."""
        changed = False
        for name in sorted(os.listdir(".")):
            if name[:-_DIGEST_LENGTH] != f"{key}-":
                continue
            held = self._hold(name)
            if held is None:
                continue
            if name in self._checked or _digest(name) == name[-_DIGEST_LENGTH:]:
                self._checked.add(name)
                os.utime(name)
                return held, changed
            held.close()
            changed = True
            _remove(name)
        return None, changed

    def _hold(self, name: str) -> Held | None:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None  # it has gone, or is something else
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return Held(_read_about(name), descriptor)
        except (OSError, ValueError, KeyError, TypeError):
            os.close(descriptor)  # it is being removed, or never was a layer
            return None

    def add(self, key: str, source: Source) -> Held:
        """Take a layer in and hold it. If there is one with this key by now, that one. Raises Rejected, EOFError,
        OSError; nothing is left then."""
        making = f"{_MAKING}{secrets.token_hex(8)}"
        os.mkdir(making, 0o700)
        lock = os.open(making, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.mkdir(f"{making}/{TREE}", 0o755)
            about = Unpacking(f"{making}/{TREE}", source, self._bounds).run()
            with open(f"{making}/{_ABOUT}", "w") as file:
                json.dump(about, file)
            name = f"{key}-{_digest(making)}"
            os.chmod(making, 0o755)
            with self._placing:
                self._make_room(about["bytes"])
                _rename(making, name)
            self._checked.add(name)
        finally:
            os.close(lock)
            if os.path.lexists(making):
                shutil.rmtree(making)
        held, _ = self.find(key)
        if held is None:
            raise Rejected("the layer was removed while it was made")
        return held

    def _make_room(self, wanted: int) -> None:
        """Remove layers, the least recently used first, until there is room. Those in use stay, whatever it takes."""
        layers = sorted(_all_layers(), key=lambda layer: layer[0])
        total = sum(size for _, size, _ in layers) + wanted
        for _, size, name in layers:
            if total <= self._bounds.total_bytes:
                return
            if _remove(name):
                total -= size
                self._checked.discard(name)
        if total > self._bounds.total_bytes:
            raise Rejected("the layers in use leave no room for another one (packages.storeSize)")


def _rename(making: str, name: str) -> None:
    try:
        os.rename(making, name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # the very same layer is there
            raise


def _all_layers() -> Iterator[tuple[int, int, str]]:
    """Every layer: when it was last used (ns), its size, its name."""
    for name in os.listdir("."):
        if name.startswith("."):
            continue
        try:
            yield os.lstat(name).st_mtime_ns, _read_about(name).bytes, name
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _read_about(name: str) -> Stored:
    with open(f"{name}/{_ABOUT}", "rb") as file:
        content = json.loads(file.read(2 * MAX_ABOUT_BYTES))
    return Stored(name, int(content["bytes"]), dict(content["about"]))


def _remove(name: str) -> bool:
    """Remove a directory of the store unless someone holds it. A reader finds it under no name while it goes."""
    try:
        lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        going = name if name.startswith(_MAKING) else f"{_MAKING}{secrets.token_hex(8)}"
        os.rename(name, going)
        shutil.rmtree(going)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(lock)
    return True


def _digest(name: str) -> str:
    """Of all that a layer is: names, kinds, contents, and what is said about it."""
    total = hashlib.sha256()
    with open(f"{name}/{_ABOUT}", "rb") as file:
        total.update(hashlib.sha256(file.read()).digest())
    top = f"{name}/{TREE}"
    for directory, names, files in os.walk(top):
        names.sort()
        for entry in sorted(names + files):
            path = f"{directory}/{entry}"
            status = os.lstat(path)
            total.update(f"{status.st_mode:o} {path.removeprefix(top)}\0".encode(errors="surrogateescape"))
            if os.path.islink(path):
                total.update(os.fsencode(os.readlink(path)) + b"\0")
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:_DIGEST_LENGTH]
