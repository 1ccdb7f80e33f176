"""Who is at the other end of a unix socket."""

from __future__ import annotations

import socket
import struct

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


def user_of(connection: socket.socket) -> int:
    """The user that the other end had when the connection was made, by the kernel's word (SO_PEERCRED, man 7 unix)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
