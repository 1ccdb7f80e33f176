"""Pipes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import termios

from isol8.kernel.syscalls import check, libc


def look_into(pipe: int) -> bytes:
    """What is in a pipe, which stays there. `pipe` is its end for reading. Raises OSError."""
    waiting = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    if not waiting:
        return b""
    reader, writer = os.pipe()
    try:
        arguments = (ctypes.c_int(pipe), ctypes.c_int(writer), ctypes.c_size_t(waiting), ctypes.c_uint(0))
        check(libc.tee(*arguments), "tee")
        return os.read(reader, waiting)
    finally:
        os.close(reader)
        os.close(writer)
