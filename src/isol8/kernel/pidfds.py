"""Descriptors of other processes."""

from __future__ import annotations

import os

from isol8.kernel.syscalls import syscall


def take_descriptor(process: int, number: int) -> int:
    """A descriptor of this process's (the caller's to close) for what another one has open as `number`. Raises
    OSError."""
    other = os.pidfd_open(process)
    try:
        return syscall("pidfd_getfd", other, number, 0)  # Linux 5.6
    finally:
        os.close(other)
