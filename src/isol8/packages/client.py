"""The API process's side of the keeper: asking for layers, sending new ones, and holding them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import dataclass, field
from typing import Any

from isol8.errors import EngineFailure
from isol8.kernel import peers

_LOG = logging.getLogger("isol8.packages")
_MAX_LINE_BYTES = 256 * 1024
_FIND_TIMEOUT_S = 120


class RejectedLayer(Exception):
    """The keeper does not take what was sent; the text says why."""


@dataclass(slots=True)
class HeldLayer:
    """A layer that stays on disk until `close`. `boots`: the interpreter must see it as it starts. `modules`: what the
    packages that were asked for can be imported as."""

    name: str
    boots: bool
    modules: tuple[str, ...]
    _reader: asyncio.StreamReader = field(repr=False)
    _writer: asyncio.StreamWriter = field(repr=False)

    async def gone(self) -> None:
        """Wait until it is not held any more: it was closed, or the keeper has died."""
        try:
            await self._reader.read(1)
        except OSError:
            return

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._writer.close()


class Delivery:
    """A layer on its way to the keeper: `send` pieces, then `finish`; or `abort`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._answer = asyncio.ensure_future(_answer(reader, writer))  # a refusal may come before all is sent
        self._answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    async def send(self, data: bytes) -> None:
        """Pass on a piece. Raises RejectedLayer, EngineFailure."""
        if not self._answer.done():
            self._writer.write(len(data).to_bytes(4, "big") + data)
            try:
                await self._writer.drain()
            except OSError as error:
                if not self._answer.done():
                    raise EngineFailure("the keeper of packages went away") from error
        if self._answer.done():
            await self._answer

    async def finish(self) -> HeldLayer:
        """All is sent. Raises RejectedLayer, EngineFailure."""
        if not self._answer.done():
            self._writer.write(bytes(4))
        layer, _ = await self._answer
        if layer is None:
            raise EngineFailure("the keeper of packages did not keep a layer")
        return layer

    def abort(self) -> None:
        """Nothing of it is kept. Idempotent."""
        self._answer.cancel()
        self._writer.close()


class KeeperClient:
    """`address` is the keeper's abstract unix socket; it need not be up at any one time. `uid` is the user who made it,
    the launcher's: nobody else may pose as the keeper."""

    def __init__(self, address: str, uid: int) -> None:
        self._address = address
        self._uid = uid

    async def _connect(self, operation: str, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._address)  # at once, or not at all
            if peers.user_of(connection) != self._uid:
                raise EngineFailure("the keeper's socket belongs to somebody else")
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_MAX_LINE_BYTES)
        except OSError as error:
            connection.close()
            raise EngineFailure("the keeper of packages is not there") from error
        except BaseException:
            connection.close()
            raise
        writer.write(json.dumps({"op": operation, "key": key}).encode() + b"\n")
        return reader, writer

    async def find(self, key: str) -> HeldLayer | None:
        """The layer with this key, held, if there is one. Raises EngineFailure, TimeoutError."""
        async with asyncio.timeout(_FIND_TIMEOUT_S):
            layer, changed = await _answer(*await self._connect("find", key))
        if changed:
            _LOG.warning("a layer of %s had been changed on disk; it is built again", key)
        return layer

    async def add(self, key: str) -> Delivery:
        """Begin to send a layer. Raises EngineFailure."""
        return Delivery(*await self._connect("add", key))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[HeldLayer | None, bool]:
    """What the keeper says; whether it found a layer that had been changed. The connection holds the layer."""
    try:
        await writer.drain()
        answer: dict[str, Any] = json.loads(await reader.readline())
    except (OSError, ValueError) as error:
        writer.close()
        raise EngineFailure("the keeper of packages went away") from error
    except BaseException:
        writer.close()
        raise
    if "rejected" in answer:
        writer.close()
        raise RejectedLayer(answer["rejected"])
    if "error" in answer:
        writer.close()
        raise EngineFailure(f"the store of packages failed: {answer['error']}")
    found = answer["layer"]
    if found is None:
        writer.close()
        return None, answer["changed"]
    return _layer(found, reader, writer), answer["changed"]


def _layer(found: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> HeldLayer:
    """What a build said of its layer is not to be believed: only what has the right form is used."""
    about = found["about"]
    modules = about.get("modules", ())
    named = modules if isinstance(modules, list) else []
    return HeldLayer(
        name=found["name"],
        boots=about.get("boots") is not False,
        modules=tuple(name for name in named[:100] if isinstance(name, str) and name.isascii() and name.isidentifier()),
        _reader=reader,
        _writer=writer,
    )
