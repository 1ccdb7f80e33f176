"""A socket to a sandbox that is reached by other means: whenever it is let go of, nothing stays open."""

from __future__ import annotations

import asyncio
import os

import pytest

from isol8.engines.carrying import Carrying


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def settle(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def read_away(reader: asyncio.StreamReader) -> None:
    while await reader.read(100):
        pass


async def test_bytes_go_both_ways() -> None:
    came = asyncio.Event()

    async def inwards(reader: asyncio.StreamReader) -> None:
        assert await reader.readexactly(4) == b"ping"
        came.set()
        await asyncio.Event().wait()

    async def outwards(writer: asyncio.StreamWriter) -> None:
        writer.write(b"pong")
        await asyncio.Event().wait()

    carrying, theirs = await Carrying.begin(inwards, outwards, lambda: None)
    os.write(theirs, b"ping")
    await came.wait()
    assert os.read(theirs, 100) == b"pong"
    await carrying.close()
    assert os.read(theirs, 100) == b""
    os.close(theirs)


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("first", ["caller", "sandbox"])
async def test_nothing_stays_open_whoever_lets_go_first_and_however_soon_the_other_does(first: str, turns: int) -> None:
    """The server destroys a sandbox in the moment in which that ends by itself."""
    await settle()
    before = descriptors()
    over, ended = asyncio.Event(), []

    async def outwards(writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.write(b"last")

    carrying, theirs = await Carrying.begin(read_away, outwards, lambda: ended.append(True))
    if first == "caller":
        os.close(theirs)
    else:
        over.set()
    await settle(turns)
    await carrying.close()
    await settle()
    assert ended == [True]
    if first == "sandbox":
        os.close(theirs)
    assert descriptors() == before


async def test_a_caller_who_goes_away_while_much_is_said_has_let_go_like_any_other() -> None:
    """The socket has closed itself by then."""
    ended = asyncio.Event()

    async def outwards(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0)

    carrying, theirs = await Carrying.begin(read_away, outwards, ended.set)
    os.close(theirs)
    async with asyncio.timeout(60):
        await ended.wait()
    await carrying.close()


async def test_what_the_sandbox_said_last_arrives() -> None:
    async def outwards(writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1000)

    carrying, theirs = await Carrying.begin(read_away, outwards, lambda: None)
    await settle()
    received = os.read(theirs, 2000)
    assert (received, os.read(theirs, 1)) == (b"x" * 1000, b"")
    os.close(theirs)
    await carrying.close()
