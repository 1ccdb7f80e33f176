"""Requests to a supervisor (`supervisor.py`, `protocol.py`), over a connection that is made when it is needed.

Many may be under way at once. A supervisor that is held up takes some hundred of them; the next ones wait.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from isol8.engines import protocol
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import peers


class Requests:
    """`address` is the supervisor's abstract unix socket; it need not be up at any one time. `uid` is its user: nobody
    else may pose as it. `close` it."""

    def __init__(self, address: str, uid: int) -> None:
        self._address = address
        self._uid = uid
        self._connection: socket.socket | None = None
        self._connecting = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[tuple[protocol.Message, list[int]]]] = {}
        self._room: asyncio.Future[None] | None = None  # for requests, while there is none: they wait for it
        self._number = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection: without, the supervisor has nothing of ours."""
        return self._connection is not None

    async def _connected(self) -> socket.socket:
        async with self._connecting:
            if self._connection is None:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
                try:
                    connection.connect(self._address)
                except OSError as error:
                    connection.close()
                    raise EngineFailure("the supervisor is not there") from error
                if peers.user_of(connection) != self._uid:
                    connection.close()
                    raise EngineFailure("the supervisor's socket belongs to somebody else")
                self._connection = connection
                asyncio.get_running_loop().add_reader(connection.fileno(), self._readable)
            return self._connection

    def _readable(self) -> None:
        assert self._connection is not None
        try:
            received = protocol.receive(self._connection)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self.close()
            return
        message, descriptors = received
        answer = self._answers.pop(message["id"], None)
        if answer is None or answer.cancelled():
            for descriptor in descriptors:
                os.close(descriptor)
            return
        answer.set_result((message, descriptors))

    def close(self) -> None:
        """The connection is over: every sandbox goes with it, and every answer that is still waited for. The next
        request makes another one. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        asyncio.get_running_loop().remove_reader(connection.fileno())
        if self._room:
            self._has_room(connection)
        connection.close()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(EngineFailure("the supervisor went away"))

    async def ask(self, operation: str, name: str, **values: Any) -> tuple[protocol.Message, list[int]]:
        """The answer, and the descriptors that came with it (the caller's to close). Raises EngineFailure and Conflict:
        also the supervisor's own words."""
        connection = await self._connected()
        self._number = number = self._number + 1
        answer: asyncio.Future[tuple[protocol.Message, list[int]]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._send(connection, {"id": number, "op": operation, "sandbox": name, **values}, answer)
        except BaseException as error:
            self._answers.pop(number, None)
            if isinstance(error, OSError):
                raise EngineFailure("the supervisor does not take requests") from error
            raise
        message, descriptors = await answer
        if "error" in message:
            raise (Conflict if message.get("conflict") else EngineFailure)(message["error"])
        return message, descriptors

    async def _send(self, connection: socket.socket, request: protocol.Message, answer: asyncio.Future[Any]) -> None:
        """Returns also when the connection has ended meanwhile, which `answer` tells of. Raises OSError."""
        while not answer.done():
            try:
                protocol.send(connection, request)
                break
            except BlockingIOError:
                await self._wait_for_room(connection)

    async def _wait_for_room(self, connection: socket.socket) -> None:
        """The supervisor has been held up, or many ask at once. Returns at the connection's end, too."""
        loop = asyncio.get_running_loop()
        if self._room is None:
            self._room = loop.create_future()
            loop.add_writer(connection.fileno(), self._has_room, connection)
        await asyncio.shield(self._room)

    def _has_room(self, connection: socket.socket) -> None:
        room, self._room = self._room, None
        asyncio.get_running_loop().remove_writer(connection.fileno())
        assert room
        room.set_result(None)
