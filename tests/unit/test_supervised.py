"""Requests to a supervisor that does not read them at once: it is held up, as on a machine that is busy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from isol8.engines import protocol
from isol8.engines.supervised import SupervisedEngine
from isol8.errors import EngineFailure
from tests.unit.scripted_engine import until

MANY = 1000  # far more than the kernel keeps for somebody who does not read
PATIENCE_S = 120.0


@dataclass
class Lab:
    """An engine, and the supervisor's end of its connection."""

    engine: SupervisedEngine
    listener: socket.socket
    connection: socket.socket

    def ask(self) -> list[asyncio.Task[None]]:
        """Begin to ask many things, of which some have to wait."""
        return [asyncio.create_task(self._ask(number)) for number in range(MANY)]

    async def _ask(self, number: int) -> None:
        message, _ = await self.engine._requests.ask("limit", str(number))
        assert message["sandbox"] == str(number)

    async def answer(self, count: int) -> None:
        """Read and answer so many requests."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(count):
                request = json.loads(await loop.sock_recv(self.connection, protocol.MAX_MESSAGE_BYTES))
                answer = json.dumps({"id": request["id"], "sandbox": request["sandbox"]})
                await loop.sock_sendall(self.connection, answer.encode())


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        address = f"\0isol8-unit-{os.getpid()}-{id(listener)}"
        listener.bind(address)
        listener.listen()
        engine = SupervisedEngine(address, os.getuid())
        await engine._requests._connected()
        connection, _ = listener.accept()
        connection.setblocking(False)
        with connection:
            yield Lab(engine, listener, connection)
            await engine.close()


async def until_some_wait(lab: Lab) -> None:
    await until(lambda: lab.engine._requests._room)


async def test_they_wait_until_there_is_room(lab: Lab) -> None:
    asked = lab.ask()
    await until_some_wait(lab)
    await lab.answer(MANY)
    await asyncio.gather(*asked)


async def test_those_that_wait_are_told_when_it_goes_away(lab: Lab) -> None:
    asked = lab.ask()
    await until_some_wait(lab)
    lab.connection.close()
    for outcome in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(outcome, EngineFailure)
        assert outcome.message == "the supervisor went away"
    again = asyncio.create_task(lab._ask(0))
    lab.connection, _ = await asyncio.to_thread(lab.listener.accept)
    lab.connection.setblocking(False)
    with lab.connection:
        await lab.answer(1)
        await again


async def test_who_does_not_wait_any_more_has_asked_nothing(lab: Lab) -> None:
    asked = lab.ask()
    await until_some_wait(lab)
    asked[-1].cancel()
    await asyncio.wait(asked[-1:])
    await lab.answer(MANY - 1)
    await asyncio.gather(*asked[:-1])
    with pytest.raises(BlockingIOError):
        lab.connection.recv(1)
