"""Files that were downloaded, on disk, so that nobody fetches them again. Only this process's user can get at them.

A file is a line with a digest, a line of JSON with what there is to know, and the content; the digest is of all that
follows it. It is made under a name that no reader looks for, and gets its own when it is complete. Whatever becomes of
it later, in a crash or by somebody's hand, shows in the digest, and it counts as not there: nothing waits for the disk.

Everything here blocks. Paths are relative to the working directory. Nothing that goes wrong on the disk is the business
of those who download: a file that cannot be kept is not kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BufferedReader
from typing import Any

_LOG = logging.getLogger("isol8.egress")
_MAKING = ".making-"
_DIGEST_BYTES = 65  # with the line's end
_MAX_ABOUT_BYTES = 8 * 1024
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class About:
    """What there is to know of a file besides its content. `etag` is empty if the host gave none; `until` (s since the
    epoch) is how long it need not be asked whether the file is still the same."""

    type: str
    etag: str
    until: float


class Kept:
    """A file that was found, and is what was downloaded. `close` it."""

    def __init__(self, file: BufferedReader, about: About, size: int) -> None:
        self.about = about
        self.size = size
        self._file = file

    def read(self, size: int) -> bytes:
        """The next piece of the content; empty at the end."""
        return self._file.read(size)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._file.close()


class Making:
    """A file that is being downloaded: `take` its pieces, then `finish`; `close` it in any case. `named` is the BLAKE2b
    digest (256 bits, hexadecimal) that it must have; empty if none is known. The descriptor is owned."""

    def __init__(self, descriptor: int, path: str, key: str, head: bytes, size: int, named: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._key = key
        self._left = size
        self._named = named
        self._digest = hashlib.sha256(head)
        self._content = hashlib.blake2b(digest_size=32)

    def take(self, data: bytes) -> bool:
        """The next piece; False when the file cannot be kept after all, and is closed."""
        self._left -= len(data)
        self._digest.update(data)
        if self._named:
            self._content.update(data)
        try:
            _write(self._descriptor, data)
        except OSError as error:
            _LOG.warning("a download cannot be kept: %s", error.strerror)
            self.close()
            return False
        return True

    def finish(self) -> None:
        """That was all of it. It is found from now on, if it is complete and what it should be."""
        right = not self._left and self._named in ("", self._content.hexdigest())
        try:
            if right:
                os.pwrite(self._descriptor, self._digest.hexdigest().encode() + b"\n", 0)
                os.rename(self._path, self._key)
        except OSError as error:
            _LOG.warning("a download cannot be kept: %s", error.strerror)
        self.close()

    def close(self) -> None:
        """Nothing of it stays, if it was not finished. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            os.close(descriptor)


class Downloads:
    """The files in the working directory, which take `total_bytes` at most. Threads may share it, and processes the
    directory."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes

    def clear(self) -> None:
        """Remove what killed processes left. What others are making stays."""
        try:
            with _alone():
                for name in os.listdir("."):
                    if name.startswith(_MAKING):
                        _remove_unless_made(name)
        except OSError as error:
            _LOG.warning("what killed processes left of downloads cannot be removed: %s", error.strerror)

    def find(self, key: str) -> Kept | None:
        """The file with this key. One that has been changed is removed."""
        try:
            file = os.fdopen(os.open(key, os.O_RDONLY | _FLAGS), "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("a download that was kept cannot be read: %s", error.strerror)
            return None
        try:
            kept = _checked(file, key)
            os.utime(file.fileno())
        except (OSError, ValueError, KeyError, TypeError):
            file.close()
            _LOG.warning("a download had been changed on disk; it is fetched again")
            with contextlib.suppress(OSError):
                os.unlink(key)
            return None
        return kept

    def begin(self, key: str, about: About, size: int, named: str) -> Making | None:
        """Begin to keep a file of `size` bytes; None if there is no room. See Making for `named`."""
        head = json.dumps(asdict(about) | {"key": key}).encode() + b"\n"
        whole = _DIGEST_BYTES + len(head) + size
        if len(head) > _MAX_ABOUT_BYTES or whole > self._total_bytes:
            return None
        try:
            with _alone():
                if not self._make_room(whole):
                    return None
                path = f"{_MAKING}{secrets.token_hex(8)}"
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
                making = Making(descriptor, path, key, head, size, named)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    os.ftruncate(descriptor, whole)  # so that others see what room it needs
                    os.lseek(descriptor, _DIGEST_BYTES, os.SEEK_SET)
                    _write(descriptor, head)
                except BaseException:
                    making.close()
                    raise
        except OSError as error:
            _LOG.warning("a download cannot be kept: %s", error.strerror)
            return None
        return making

    def _make_room(self, wanted: int) -> bool:
        """Remove files, the least recently used first, until there is room; False if what is being made leaves none."""
        found = [(status.st_mtime_ns, status.st_size, name) for name, status in _all()]
        total = sum(size for _, size, _ in found) + wanted
        for _, size, name in sorted(each for each in found if not each[2].startswith(_MAKING)):
            if total <= self._total_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            total -= size
        return total <= self._total_bytes


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other thread or process adds files meanwhile."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _all() -> Iterator[tuple[str, os.stat_result]]:
    for name in os.listdir("."):
        with contextlib.suppress(FileNotFoundError):
            yield name, os.lstat(name)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _checked(file: BufferedReader, key: str) -> Kept:
    """A file that is as it was made, read up to its content. Raises ValueError, KeyError, TypeError, OSError."""
    digest = file.read(_DIGEST_BYTES)
    if hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n" != digest:
        raise ValueError("not what was downloaded")
    end = file.tell()
    file.seek(_DIGEST_BYTES)
    about: dict[str, Any] = json.loads(file.readline(_MAX_ABOUT_BYTES))
    if about.pop("key") != key:
        raise ValueError("not the file of this name")
    return Kept(file, About(**about), end - file.tell())


def _remove_unless_made(name: str) -> None:
    """Whoever makes a file holds a lock on it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(name, os.O_RDONLY | _FLAGS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name)
        finally:
            os.close(descriptor)
