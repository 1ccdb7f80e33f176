"""The API process's side of the proxy: opening a gate for a sandbox, and closing it.

One gate is one connection to the proxy's process (`process.py` has the protocol). It lives as long as that connection,
so nothing of a gate is left when either process dies.
"""

from __future__ import annotations

import array
import asyncio
import dataclasses
import json
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from isol8.errors import EngineFailure
from isol8.kernel import peers
from isol8.model import EgressPolicy, NetworkRequest

# For a machine that is busy: a proxy that was just started has still to read its own program.
_OPEN_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 20.0  # a busy machine's log of requests is not to be lost
MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NetworkLog:
    """What went through a gate. `complete` is False when entries were dropped or lost."""

    entries: tuple[NetworkRequest, ...]
    complete: bool


class OpenGate:
    """A gate that is open until `close` or `abandon`. `bundle` is PEM: every authority that programs must trust for the
    hosts of their secrets; with downloads that are kept, the one that they must trust besides; else empty."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bundle: bytes) -> None:
        self.bundle = bundle
        self._reader = reader
        self._writer = writer

    async def close(self) -> NetworkLog:
        """End every connection through it; what went through. Raises nothing: what is lost is not complete."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                self._writer.write_eof()
                said = json.loads(await self._reader.readline())
        except (OSError, ValueError, TimeoutError):
            return NetworkLog((), complete=False)
        finally:
            self.abandon()
        return NetworkLog(tuple(_request(entry) for entry in said["requests"]), complete=not said["dropped"])

    def abandon(self) -> None:
        """End every connection through it, without waiting. Idempotent."""
        self._writer.transport.abort()


class Egress:
    """Opens gates. `address` is the proxy's abstract unix socket; `uid` is the user who made it, the launcher's: nobody
    else may pose as the proxy."""

    def __init__(self, address: str, uid: int) -> None:
        self._address = address
        self._uid = uid

    async def open(self, listener: socket.socket, policy: EgressPolicy) -> OpenGate:
        """A gate for the sandbox that `listener` listens in (`Engine.listen`); the listener is closed here. The caller
        closes the gate. Raises EngineFailure."""
        with listener:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                self._introduce(connection, listener, policy)
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE_BYTES)
            except OSError as error:
                connection.close()
                raise EngineFailure("the proxy is not there") from error
            except BaseException:
                connection.close()
                raise
        return await _greet(reader, writer, policy)

    def _introduce(self, connection: socket.socket, listener: socket.socket, policy: EgressPolicy) -> None:
        """Connect, and hand over the listener. Raises OSError, EngineFailure."""
        connection.connect(self._address)
        if peers.user_of(connection) != self._uid:
            raise EngineFailure("the proxy's socket belongs to somebody else")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))]
        connection.sendmsg([b"+"], rights)


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, policy: EgressPolicy) -> OpenGate:
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            writer.write(json.dumps(dataclasses.asdict(policy)).encode() + b"\n")
            await writer.drain()
            said: dict[str, Any] = json.loads(await reader.readline())
    except (OSError, ValueError, TimeoutError) as error:
        writer.transport.abort()
        raise EngineFailure("the proxy does not answer") from error
    except BaseException:
        writer.transport.abort()
        raise
    return OpenGate(reader, writer, said["bundle"].encode())


def _request(entry: dict[str, Any]) -> NetworkRequest:
    return NetworkRequest(**entry | {"started_at": datetime.fromisoformat(entry["started_at"])})
