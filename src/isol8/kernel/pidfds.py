"""Descriptors of other processes."""

from __future__ import annotations

import ctypes
import os

from isol8.kernel.syscalls import check, libc

_PIDFD_GETFD = 438  # Linux 5.6; the same on every architecture


def take_descriptor(process: int, number: int) -> int:
    """A descriptor of this process's (the caller's to close) for what another one has open as `number`. Raises
    OSError."""
    other = os.pidfd_open(process)
    try:
        arguments = (ctypes.c_long(value) for value in (_PIDFD_GETFD, other, number, 0))
        return check(libc.syscall(*arguments), "pidfd_getfd")
    finally:
        os.close(other)
