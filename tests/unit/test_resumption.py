"""Getting back into step, whatever was on its way when a server was cut off."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.engines.connection import Connection
from isol8.runner import frames
from isol8.runner.frames import encode
from isol8.runner.resumption import Keeping, Watch, resume, resumed

TOKEN, NUMBER = (hashlib.sha256(purpose).digest()[:16] for purpose in (b"token", b"number"))
# What comes close: pieces of what is looked for.
NEAR = st.sampled_from(
    [resume(TOKEN, NUMBER)[:n] for n in (1, 5, 9, 12, 20)] + [TOKEN[:12], NUMBER, resumed(NUMBER)[:-1]]
)
JUNK = st.lists(st.one_of(st.binary(max_size=40), NEAR), max_size=8).map(b"".join)


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(JUNK, st.binary(max_size=50), st.lists(st.integers(0, 10**6), max_size=12))
def test_the_mark_is_found_wherever_the_stream_is_cut(junk: bytes, after: bytes, cuts: list[int]) -> None:
    keeping = Keeping(TOKEN, 0.0)
    found, rest = b"", b""
    for piece in _pieces(junk + resume(TOKEN, NUMBER) + after, cuts):
        if found:
            rest += piece
        elif answer := keeping.find(piece):
            found, rest = answer
    assert (found, rest) == (NUMBER, after)


@given(JUNK, st.lists(st.integers(0, 10**6), max_size=12))
def test_nothing_else_is_taken_for_it(junk: bytes, cuts: list[int]) -> None:
    keeping = Keeping(bytes(15) + b"\x99", 0.0)
    assert not any(keeping.find(piece) for piece in _pieces(junk, cuts))


def test_two_servers_one_after_the_other() -> None:
    keeping = Keeping(TOKEN, 0.0)
    found = keeping.find(b"x" + resume(TOKEN, bytes(16)) + resume(TOKEN, NUMBER) + b"y")
    assert found is not None
    assert found[0] == bytes(16)
    assert keeping.find(found[1]) == (NUMBER, b"y")


def test_a_watch_holds_no_more_than_it_needs() -> None:
    watch = Watch(b"mark", 2)
    for _ in range(100):
        assert watch.find(bytes(1 << 16)) is None
    assert len(watch._tail) < 6


def test_patience() -> None:
    assert Keeping(TOKEN, 0.0).wait_ms() is None
    assert 0 < (Keeping(TOKEN, 60.0).wait_ms() or 0) <= 60_000
    assert Keeping(TOKEN, 1e-9).wait_ms() == 0
    assert (Keeping(TOKEN, 1e15).wait_ms() or 0) < 2**31, "poll takes no more"


@pytest.mark.parametrize("junk", [b"", b"\xff" * 1000, encode(frames.READY, 0), resumed(bytes(16)), encode(19, 1)[:7]])
async def test_a_connection_is_ready_when_its_number_has_come(junk: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection()
    connection.expect(resumed(NUMBER))
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
    number, channel = connection.open()
    try:
        theirs.sendall(junk + encode(frames.EXIT, number, bytes(4)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(connection.ready), 0.05)
        theirs.sendall(resumed(NUMBER) + encode(frames.DONE, number))
        await connection.ready
        assert await channel.take() == (frames.DONE, b"")
    finally:
        connection.close()
        theirs.close()
