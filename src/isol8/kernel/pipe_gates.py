"""A gate for processes without any right: a named pipe in place of a file, whose reader waits until it has content.

Unlike `gates.py`, who is held can tell by what it has opened, so this is for interpreters that only read their program
once, and have no use for what kind of file it was. inotify(7) tells that somebody has come.
"""

from __future__ import annotations

import os

from isol8.kernel.syscalls import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CLOEXEC = 0x80000
_OPENED = 0x20  # IN_OPEN
_EVENTS_BYTES = 4096


class PipeGate:
    """A gate at `path`, where nothing is. `write` puts a file there that has the content it is given. `open` or
    `close` it. Raises OSError."""

    def __init__(self, path: str, write: Callable[[bytes], None]) -> None:
        self._path = path
        self._write = write
        os.mkfifo(path, 0o644)
        # Open for both, so that who opens it to read is held in reading, and its coming can be seen.
        self._pipe = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.descriptor = check(libc.inotify_init1(_CLOEXEC), "inotify_init1")
        check(libc.inotify_add_watch(self.descriptor, path.encode(), _OPENED), "inotify_add_watch")

    def arrive(self) -> None:
        """Take note of who has come; to be called when `descriptor` can be read."""
        os.read(self.descriptor, _EVENTS_BYTES)

    def pass_on(self) -> None:
        """Nobody can be let through a pipe: this gate is for those who come once."""
        raise OSError("a pipe has no second reader")

    def in_place(self) -> bool:
        """Whether `path` is still this pipe."""
        try:
            named, own = os.stat(self._path, follow_symlinks=False), os.fstat(self._pipe)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    def open(self, content: bytes) -> None:
        """Put the file in place, then let who is held read the same. Raises OSError: no room; the gate is then still
        closed."""
        writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._write(content)
            self.close()
            os.set_blocking(writer, True)
            view = memoryview(content)
            while view:
                view = view[os.write(writer, view) :]
        except BrokenPipeError:
            pass  # it has read enough, or died; its exit status tells
        finally:
            os.close(writer)

    def forget(self) -> None:
        """Nothing is left of it when it was opened or closed."""

    def close(self) -> None:
        """Take the gate away; who is held reads the end of the file. Idempotent."""
        for name in ("descriptor", "_pipe"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)
