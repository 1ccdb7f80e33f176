"""A gate: whoever opens one file is held in the middle of `open`, until the file has what it should have.

By fanotify's permission events (fanotify(7)): the kernel asks the holder of a descriptor before it lets an `open` go
on. The process that is held can tell nothing: it is not traced, and its file is an ordinary one.
"""

from __future__ import annotations

import os

from isol8.kernel.seccomp_policy import MARK_REMOVE
from isol8.kernel.syscalls import syscall

_CLASS_CONTENT = 0x4
_CLOEXEC = 0x1
_MARK_ADD = 0x1
_OPEN_PERM = 0x10000
_ALLOW = 1
_AT_FDCWD = -100
_EVENT_BYTES = 4096


class Gate:
    """A gate at the new, empty file `path`, which belongs to user and group `uid`. `open` or `close` it.

    Making one takes CAP_SYS_ADMIN in the first user namespace; having it takes nothing. Raises OSError: EPERM, or
    EINVAL from a kernel without CONFIG_FANOTIFY_ACCESS_PERMISSIONS.

    Opened or closed, it still takes one of the 128 that a user may have (fs.fanotify.max_user_groups), until `forget`.
    That is for later: while the mark is being forgotten, it waits for a grace period of the kernel's, some 10 to 20 ms,
    as long as many a program runs.
    """

    def __init__(self, path: str, uid: int) -> None:
        self._path = path
        self._held = -1
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.descriptor = -1
        try:
            os.fchown(self._file, uid, uid)
            self.descriptor = syscall("fanotify_init", _CLASS_CONTENT | _CLOEXEC, os.O_RDONLY | os.O_CLOEXEC)
            name = path.encode() + b"\0"
            syscall("fanotify_mark", self.descriptor, _MARK_ADD, _OPEN_PERM, _AT_FDCWD, name)
        except OSError:
            for descriptor in (self.descriptor, self._file):
                if descriptor >= 0:
                    os.close(descriptor)
            os.unlink(path)
            raise

    def arrive(self) -> None:
        """Take note of who has come; to be called when `descriptor` can be read."""
        # struct fanotify_event_metadata: event_len (4), vers, reserved, metadata_len (4), mask (8), fd (4), pid (4)
        event = os.read(self.descriptor, _EVENT_BYTES)
        self._held = int.from_bytes(event[16:20], "little")

    def pass_on(self) -> None:
        """Let go on who is held, and stay for the next."""
        # struct fanotify_response: fd (4), response (4)
        try:
            os.write(self.descriptor, self._held.to_bytes(4, "little") + _ALLOW.to_bytes(4, "little"))
        except FileNotFoundError:
            pass  # it was killed while it waited
        os.close(self._held)
        self._held = -1

    def in_place(self) -> bool:
        """Whether `path` is still this file."""
        try:
            named, own = os.stat(self._path, follow_symlinks=False), os.fstat(self._file)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    def open(self, content: bytes) -> None:
        """Fill the file, and let go on who is held. Raises OSError: no room; the gate is then still closed."""
        view = memoryview(content)
        while view:
            view = view[os.write(self._file, view) :]
        self._remove()
        self.pass_on()

    def close(self) -> None:
        """Take the gate away; who is held goes on, if it lives. Idempotent."""
        if self._file >= 0:
            self._remove()
        if self._held >= 0:
            self.pass_on()

    def forget(self) -> None:
        """Let the kernel forget a gate that was opened or closed. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _remove(self) -> None:
        """From here on nobody else is held."""
        syscall("fanotify_mark", self.descriptor, MARK_REMOVE, _OPEN_PERM, self._file, None)
        os.close(self._file)
        self._file = -1
