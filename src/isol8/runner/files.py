"""Files in and out of the sandbox, by the sandbox's own user, from inside.

A path is whatever the program has made of it by now: a symbolic link, a pipe, a directory. Nothing here can
reach more than the program itself could, and only regular files on the sandbox's writable mounts are touched.
"""

from __future__ import annotations

import errno
import os

from isol8.runner.frames import CHUNK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WRITABLE = ("/sandbox", "/tmp")


class Refused(OSError):
    """A path that is not a file on one of the writable mounts."""


def _is_regular(mode: int) -> bool:
    return mode & 0o170000 == 0o100000


def _writable_devices() -> set[int]:
    return {os.stat(path).st_dev for path in WRITABLE}


class Upload:
    """A file being written: under a name of its own until `finish` puts it in place, whole."""

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        directory = os.path.dirname(path)
        os.makedirs(directory, exist_ok=True)
        if os.stat(directory).st_dev not in _writable_devices():
            raise Refused(errno.EACCES, "not a writable directory")
        self._partial = f"{directory}/.isol8-{number}.part"
        self._descriptor = os.open(
            self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )

    def write(self, data: bytes) -> None:
        """Append. Raises OSError (ENOSPC, ENOMEM when the sandbox is full)."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Put the file in place. Raises OSError: a directory is in the way."""
        os.close(self._descriptor)
        self._descriptor = -1
        os.rename(self._partial, self._path)

    def abort(self) -> None:
        """Leave nothing of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        try:
            os.unlink(self._partial)
        except FileNotFoundError:
            pass  # the program was quicker


class Uploads:
    """Files that are on their way in, each by the number of its exchange. Of one that has failed, what is still to come
    is ignored. Raises OSError where a file cannot be written."""

    def __init__(self) -> None:
        self._open: dict[int, Upload | None] = {}
        self._count = 0

    def begin(self, channel: int, path: str) -> None:
        """The first of one."""
        self._open[channel] = None
        self._count += 1
        self._open[channel] = Upload(path, self._count)

    def write(self, channel: int, data: bytes) -> None:
        """A piece of one."""
        upload = self._open.get(channel)
        if upload is None:
            return
        try:
            upload.write(data)
        except OSError:
            self._open[channel] = None
            upload.abort()
            raise

    def finish(self, channel: int) -> bool:
        """The end of one: whether it is in place now."""
        upload = self._open.pop(channel, None)
        if upload is None:
            return False
        try:
            upload.finish()
        except OSError:
            upload.abort()
            raise
        return True

    def abort(self) -> None:
        """Leave nothing of any."""
        for upload in self._open.values():
            if upload:
                upload.abort()
        self._open.clear()


def write_file(path: str, content: bytes) -> None:
    """Write a small file in place, following nothing. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def read_chunks(path: str, max_bytes: int) -> Iterator[bytes]:
    """Yield a file's bytes. Raises OSError; IsADirectoryError, Refused, and EFBIG over `max_bytes`."""
    # O_NONBLOCK: opening a pipe that nobody writes must not hang the runner.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o170000 == 0o040000:
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if not _is_regular(status.st_mode) or status.st_dev not in _writable_devices():
            raise Refused(errno.EACCES, "not a file of the sandbox")
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes")
        left = max_bytes
        while left > 0:
            chunk = os.read(descriptor, min(CHUNK_BYTES, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
