"""How the kernel keeps files in memory.

What it has read because a process touched it lies there page by page, and is put into and taken out of every process
that maps it page by page. What was read in one go lies there in large pieces, where the file system can (ext4 since
Linux 6.16, XFS), and is mapped and unmapped by the piece: interpreters are of a hundred megabytes.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from isol8.kernel import privileges

_PIECE_BYTES = 4 << 20


@contextmanager
def reading_anew(paths: list[str], longest_s: float) -> Iterator[None]:
    """Have the kernel forget files, and read each in one go, while the block is under way; its end waits until all are
    read, or `longest_s` more. What is mapped somewhere stays as it is. A file that cannot be read is left out."""
    pid = os.fork()
    if pid == 0:
        try:
            privileges.die_with_parent(signal.SIGKILL)
            for path in paths:
                with suppress(OSError):
                    _read_anew(path)
        finally:
            os._exit(0)
    reader = os.pidfd_open(pid)
    try:
        yield
        select.select([reader], [], [], longest_s)
    finally:
        signal.pidfd_send_signal(reader, signal.SIGKILL)
        os.close(reader)
        os.waitpid(pid, 0)


def _read_anew(path: str) -> None:
    piece = bytearray(_PIECE_BYTES)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.readinto(piece):
            pass
