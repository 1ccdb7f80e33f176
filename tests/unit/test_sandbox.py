"""The server's end of a sandbox, against runners that were taken over: they can hurt nothing but their own sandbox."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.engines.connection import Connection
from isol8.engines.sandbox import Chunk, Exit, Sandbox
from isol8.errors import Conflict, EngineFailure, InvalidRequest, Isol8Error, NotFound, SandboxFull
from isol8.model import Limits, Plan, SandboxSpec
from isol8.runner import frames
from isol8.runner.frames import encode

LIMITS = Limits(memory_bytes=1 << 28, cpus=1.0, pids=64, sandbox_bytes=1 << 26, tmp_bytes=1 << 26)
PLAN = Plan(runtime="x", executable="/x", argv=("x",), path="/p", source=b"", env={}, workdir="/sandbox", warm=True)


@asynccontextmanager
async def peer() -> AsyncIterator[tuple[Sandbox, socket.socket]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, sock=ours)
    sandbox = Sandbox("test", SandboxSpec(runtime="x", limits=LIMITS), connection)
    try:
        yield sandbox, theirs
    finally:
        sandbox.disconnect()
        theirs.close()


async def say(stream: socket.socket, *parts: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(stream, b"".join(parts))


async def run(sandbox: Sandbox) -> list[Chunk | Exit]:
    return [event async for event in sandbox.run(PLAN, stdin=b"", output_bytes=100)]


async def test_output_and_exit() -> None:
    async with peer() as (sandbox, stream):
        await say(stream, encode(frames.STDOUT, 1, b"a"), encode(frames.STDERR, 1, b"b"))
        await say(stream, encode(frames.EXIT, 1, (3).to_bytes(4, "big")))
        assert await run(sandbox) == [Chunk("stdout", b"a"), Chunk("stderr", b"b"), Exit(3)]


@pytest.mark.parametrize(
    "attack",
    [
        encode(frames.EXIT, 1, b"123"),
        encode(frames.EXIT, 1, b""),
        encode(frames.STATUS, 1, b"123"),
        encode(frames.DATA, 1, b"x"),
        encode(200, 1, b"x"),
        b"\x11" + bytes(4) + b"\xff\xff\xff\xff",
    ],
    ids=["short exit", "empty exit", "short status", "wrong kind", "unknown kind", "huge length"],
)
async def test_a_broken_protocol_ends_the_sandbox(attack: bytes) -> None:
    async with peer() as (sandbox, stream):
        await say(stream, attack)
        with pytest.raises(EngineFailure):
            await run(sandbox)
        assert sandbox.dead


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (9, 137), (0x80 | 6, 134), (0xFFFFFFFF, 255)])
async def test_an_end_as_the_kernel_tells_it(status: int, code: int) -> None:
    async with peer() as (sandbox, stream):
        await say(stream, encode(frames.STATUS, 1, status.to_bytes(4, "little")))
        assert await run(sandbox) == [Exit(code)]


async def test_who_counts_nothing_is_told_once_that_there_is_enough() -> None:
    """However the pieces lie; and no more is passed on than was asked for."""
    for sizes in ([101, 1, 1000], [50, 1000, 1], [1000, 1000]):
        async with peer() as (sandbox, stream):
            await say(stream, *(encode(frames.STDOUT, 1, b"x" * size) for size in sizes))
            await say(stream, encode(frames.STDERR, 1, b"y" * 101), encode(frames.EXIT, 1, bytes(4)))
            events = await run(sandbox)
            said = b"".join(event.data for event in events if isinstance(event, Chunk))
            assert (said.count(b"x"), said.count(b"y"), events[-1]) == (101, 101, Exit(0))
            sent = await asyncio.get_running_loop().sock_recv(stream, 100_000)
            assert sent.count(encode(frames.TAKE_OVER, 0)) == 1


async def test_frames_for_nobody_are_dropped() -> None:
    async with peer() as (sandbox, stream):
        await say(stream, *(encode(frames.STDOUT, 99, b"x" * 1000) for _ in range(50)))
        await say(stream, encode(frames.READY, 0), encode(frames.EXIT, 1, bytes(4)))
        assert await run(sandbox) == [Exit(0)]


async def test_an_exit_code_is_one_byte() -> None:
    async with peer() as (sandbox, stream):
        await say(stream, encode(frames.EXIT, 1, b"\xff\xff\xff\xff"))
        assert await run(sandbox) == [Exit(255)]


async def test_end_of_stream_wakes_whoever_waits() -> None:
    async with peer() as (sandbox, stream):
        running = asyncio.create_task(run(sandbox))
        await asyncio.sleep(0)
        stream.close()
        with pytest.raises(EngineFailure):
            await running
        with pytest.raises(EngineFailure):
            await sandbox.put("/sandbox/x", b"")


async def test_a_runner_that_ends_while_it_is_sent_something() -> None:
    """Whoever carries the stream may know of it before it stops taking what is sent, or without ever doing so."""
    async with peer() as (sandbox, stream):
        putting = asyncio.create_task(sandbox.put("/sandbox/x", b"x" * 20_000_000))
        assert await asyncio.get_running_loop().sock_recv(stream, 1)  # it has begun to come, and most of it never will
        stream.shutdown(socket.SHUT_WR)
        with pytest.raises(EngineFailure, match="the sandbox ended"):
            await asyncio.wait_for(putting, 60)
        assert sandbox.dead


async def test_a_flood_that_nobody_takes_is_not_read_without_end() -> None:
    async with peer() as (sandbox, stream):
        iterator = sandbox.run(PLAN, stdin=b"", output_bytes=1 << 40)
        frame = encode(frames.STDOUT, 1, b"x" * 500_000)
        await say(stream, frame)
        assert await anext(iterator) == Chunk("stdout", b"x" * 500_000)
        flood = asyncio.create_task(say(stream, *([frame] * 40)))
        done, _ = await asyncio.wait([flood], timeout=0.5)
        assert not done  # 20 MB do not fit: the sender is held up
        for _ in range(40):
            assert await anext(iterator) == Chunk("stdout", b"x" * 500_000)
        await flood


async def test_a_file_longer_than_asked_for_breaks_the_sandbox() -> None:
    async with peer() as (sandbox, stream):
        await say(stream, encode(frames.DATA, 1, b"x" * 11))
        with pytest.raises(EngineFailure):
            await sandbox.get("/sandbox/x", 10)
        assert sandbox.dead


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ENOENT", NotFound),
        ("EISDIR", InvalidRequest),
        ("ENOSPC", SandboxFull),
        ("ENOMEM", SandboxFull),
        ("<script>", EngineFailure),
        ("", EngineFailure),
    ],
)
async def test_failures_are_told_in_our_own_words(name: str, error: type[Exception]) -> None:
    async with peer() as (sandbox, stream):
        await say(stream, encode(frames.FAILED, 1, f"{name}\0evil text".encode()))
        with pytest.raises(error) as raised:
            await sandbox.get("/sandbox/x", 10)
        assert "evil" not in str(raised.value)
        assert not sandbox.dead


@pytest.mark.parametrize(
    ("answer", "error", "dead"),
    [
        (encode(frames.FAILED, 1, b"EADDRINUSE\0taken"), Conflict, False),
        (encode(frames.FAILED, 1, b"ENOENT\0anything"), EngineFailure, False),
        (encode(frames.EXIT, 1, bytes(4)), EngineFailure, True),
    ],
    ids=["taken", "failed", "wrong kind"],
)
async def test_a_port_that_cannot_be_listened_on(answer: bytes, error: type[Exception], dead: bool) -> None:
    async with peer() as (sandbox, stream):
        await say(stream, answer)
        with pytest.raises(error):
            await sandbox.listen(3128)
        assert sandbox.dead is dead


async def test_a_runner_that_does_not_confirm_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isol8.engines.sandbox._KILL_TIMEOUT_S", 0.05)
    async with peer() as (sandbox, _):
        with pytest.raises(EngineFailure, match="does not answer"):
            await sandbox.kill()


class Transport(asyncio.Transport):
    """Notes how often it is told to stop reading, and to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = self.resumes = 0

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.resumes += 1

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 1000])
async def test_frames_that_nobody_takes_are_bounded_whatever_is_in_them(payload: bytes) -> None:
    """Also empty ones cost memory while they wait."""
    connection, transport = Connection(), Transport()
    connection.connection_made(transport)
    number, channel = connection.open()
    sent = 0
    while not transport.pauses and sent < 100_000:
        connection.data_received(encode(frames.STDOUT, number, payload))
        sent += 1
    assert transport.pauses, sent
    for _ in range(sent):
        await channel.take()
    assert transport.resumes
    assert connection._held_bytes == 0


FRAMES = st.tuples(
    st.sampled_from([*range(14, 24), 0, 255, frames.DATA, frames.END]),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=12), st.sampled_from([bytes(4), b"ENOENT\0x", b"x" * 2000])),
)


@given(st.lists(FRAMES, max_size=12), st.binary(max_size=20), st.integers(1, 4000))
def test_a_runner_that_says_anything(said: list[tuple[int, int, bytes]], garbage: bytes, piece: int) -> None:
    """Interleaved, out of order, on channels that are not open, cut anywhere, with garbage at the end: a run, an upload
    and a download at once each end as they may, or with an error of ours, and nothing is left waiting."""

    async def exchange() -> None:
        connection, transport = Connection(), Transport()
        connection.connection_made(transport)
        sandbox = Sandbox("test", SandboxSpec(runtime="x", limits=LIMITS), connection)
        running = asyncio.create_task(run(sandbox))
        putting = asyncio.create_task(sandbox.put("/sandbox/x", b"y" * 10))
        getting = asyncio.create_task(sandbox.get("/sandbox/x", 100))
        await asyncio.sleep(0)
        stream = b"".join(encode(*frame) for frame in said) + garbage
        for start in range(0, len(stream), piece):
            connection.data_received(stream[start : start + piece])
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.wait((running, putting, getting), timeout=120)
        for task in (running, putting, getting):
            assert task.done()
            assert task.exception() is None or isinstance(task.exception(), Isol8Error), repr(task.exception())
        assert running.exception() or sum(isinstance(event, Exit) for event in running.result()) == 1
        assert getting.exception() or len(getting.result()) <= 100
        assert connection._held_bytes == 0
        assert not connection._channels

    asyncio.run(exchange())
