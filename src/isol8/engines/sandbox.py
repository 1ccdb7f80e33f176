"""One live sandbox, as the server speaks to it: run a program, kill it, put a file, get a file.

The same for every engine: all of it is frames to and from the runner (runner/frames.py). What comes from a runner is
untrusted. Anything that no correct runner sends breaks the sandbox: it is `dead` then, whoever waits gets
EngineFailure, and the owner destroys it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from isol8.errors import Conflict, EngineFailure, InvalidRequest, Isol8Error, NotFound, SandboxFull
from isol8.model import Content, Plan, SandboxSpec
from isol8.runner import frames
from isol8.runner.frames import Decoder, ProtocolError, encode, encode_content, encode_fields
from isol8.runner.resumption import Watch

_MAX_ANSWER_BYTES = 1024 * 1024
# For a machine that is busy: who does not answer by then is destroyed, and a session loses all it has.
_KILL_TIMEOUT_S = 5.0
_LISTEN_TIMEOUT_S = 30.0
# What may wait to be taken before the runner is no longer read, and with that the program is held up.
_HIGH_WATER = 4 * 1024 * 1024
TOO_LARGE = "too_large"
# A frame that waits is more than its payload, which may be empty.
_FRAME_BYTES = 256
_STREAMS = {frames.STDOUT: "stdout", frames.STDERR: "stderr"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes the program wrote. `stream` is `stdout` or `stderr`."""

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """The main process ended. `code` is its exit status, or 128+N for death by signal N."""

    code: int


_Frame = tuple[int, bytes]


class _Channel:
    """The frames of one exchange, in order, until the connection ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames: list[_Frame] = []
        self._next = 0
        self._waiter: asyncio.Future[None] | None = None

    def push(self, frame: _Frame) -> None:
        self._frames.append(frame)
        self.wake()

    def wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> _Frame:
        """The next frame. Raises EngineFailure when there will be none."""
        while self._next == len(self._frames):
            if self._connection.lost:
                raise EngineFailure("the sandbox ended")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        frame = self._frames[self._next]
        self._next += 1
        if self._next == len(self._frames):
            self._frames.clear()
            self._next = 0
        self._connection.taken(len(frame[1]) + _FRAME_BYTES)
        return frame


class Connection(asyncio.Protocol):
    """The byte stream to a runner, cut into frames and dealt out to channels. `close` it.

    With `mark`, it may begin in the middle of something: what comes before the mark is ignored.
    """

    def __init__(self, mark: bytes = b"") -> None:
        self.lost = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._watch = Watch(mark) if mark else None
        self._decoder = Decoder(_MAX_ANSWER_BYTES)
        self._channels: dict[int, _Channel] = {}
        self._number = 0
        self._held_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the stream is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its type

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the runner."""
        if self._watch:
            found = self._watch.find(data)
            if found is None:
                return
            self._watch, (_, data) = None, found
            if not self.ready.done():
                self.ready.set_result(None)
        try:
            for kind, number, payload in self._decoder.feed(data):
                self._deal(kind, number, payload)
        except ProtocolError:
            self.close()

    def _deal(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.READY and not self.ready.done():
            self.ready.set_result(None)
            return
        channel = self._channels.get(number)
        if channel is None:
            return  # an exchange that was given up
        channel.push((kind, payload))
        self._held_bytes += len(payload) + _FRAME_BYTES
        if self._held_bytes > _HIGH_WATER and self._transport:
            self._transport.pause_reading()

    def taken(self, size: int) -> None:
        """A channel's owner took `size` bytes of payload."""
        before = self._held_bytes
        self._held_bytes -= size
        if before > _HIGH_WATER >= self._held_bytes and self._transport and not self.lost:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """asyncio: the runner does not read as fast as we write."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """asyncio: there is room again."""
        self._drained.set()

    def eof_received(self) -> None:
        """asyncio: the runner is gone. What is still to be sent to it has no reader, and must not be waited for."""
        if self._transport:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the stream is over. Everyone who waits is told."""
        self.lost = True
        self._drained.set()
        if not self.ready.done():
            self.ready.set_exception(EngineFailure("the sandbox ended before it was ready"))
        for channel in self._channels.values():
            channel.wake()

    def open(self) -> tuple[int, _Channel]:
        """A new channel and its number. `release` it."""
        self._number += 1
        channel = self._channels[self._number] = _Channel(self)
        return self._number, channel

    def release(self, number: int) -> None:
        """Frames that still come for this channel are dropped."""
        channel = self._channels.pop(number)
        self.taken(sum(len(payload) + _FRAME_BYTES for _, payload in channel._frames[channel._next :]))

    def send(self, data: bytes) -> None:
        """Queue bytes. Raises EngineFailure when the stream is over."""
        if self.lost or self._transport is None:
            raise EngineFailure("the sandbox ended")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until most of what was queued is sent."""
        await self._drained.wait()

    def close(self) -> None:
        """End the stream; the runner ends with it. Idempotent."""
        self.lost = True
        if self._transport:
            self._transport.abort()


class Sandbox:
    """A sandbox and the connection to its runner. `spec` holds the limits in force.

    Every method raises EngineFailure once the sandbox is gone (`dead` is True then).
    """

    def __init__(self, name: str, spec: SandboxSpec, connection: Connection) -> None:
        self.id = name
        self.spec = spec
        self._connection = connection

    @property
    def dead(self) -> bool:
        """Whether it can do nothing any more."""
        return self._connection.lost

    def disconnect(self) -> None:
        """End the stream, and with it the runner. For engines; everyone else destroys. Idempotent."""
        self._connection.close()

    async def run(self, plan: Plan, *, stdin: Content, output_bytes: int) -> AsyncGenerator[Chunk | Exit, None]:
        """Start the program; yields what it writes and ends with exactly one Exit. The runner stops relaying
        a stream after `output_bytes` + 1 bytes (so that the caller can tell) and reads the rest away.
        One at a time. Closing the iterator early does not kill the program: use `kill`.

        Raises InvalidRequest or SandboxFull when the program file cannot be written.
        """
        number, channel = self._connection.open()
        feeding: asyncio.Task[None] | None = None
        try:
            if len(stdin) <= frames.CHUNK_BYTES:
                self._connection.send(_start(number, plan, output_bytes) + _stdin(number, stdin))
            else:
                self._connection.send(_start(number, plan, output_bytes))
                feeding = asyncio.create_task(self._feed(number, stdin))
            while True:
                kind, payload = await channel.take()
                if kind in _STREAMS:
                    yield Chunk(_STREAMS[kind], payload)
                elif kind == frames.EXIT and len(payload) == 4:
                    yield Exit(int.from_bytes(payload, "big") & 0xFF)
                    return
                else:
                    self._raise_for(kind, payload, plan.path)
        finally:
            self._connection.release(number)
            if feeding:
                feeding.cancel()

    async def _feed(self, number: int, stdin: Content) -> None:
        """Beside the reading of output: a runner that cannot write does not read."""
        with suppress(EngineFailure):  # whoever reads the output is told
            for at in range(0, len(stdin), frames.CHUNK_BYTES):
                self._connection.send(encode(frames.STDIN, number, stdin[at : at + frames.CHUNK_BYTES]))
                await self._connection.drain()
            self._connection.send(encode(frames.STDIN, number))

    async def kill(self) -> None:
        """SIGKILL every process in the sandbox but the runner; the iterator of `run` then ends with Exit(137).
        Raises EngineFailure if the runner does not confirm within five seconds: destroy the sandbox then."""
        number, channel = self._connection.open()
        try:
            self._connection.send(encode(frames.KILL, number))
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                await channel.take()
        except TimeoutError as error:
            raise EngineFailure("the sandbox does not answer") from error
        finally:
            self._connection.release(number)

    def prepare(self) -> None:
        """Have the runner make ready for the next program, which then starts sooner. Returns at once."""
        self._connection.send(encode(frames.PREPARE, 0))

    async def listen(self, port: int) -> None:
        """Have connections to a port of the loopback carried outside (runner/relay.py), for engines that cannot listen
        there themselves. Raises Conflict when a program has taken the port."""
        number, channel = self._connection.open()
        try:
            self._connection.send(encode_fields(frames.LISTEN, number, [("port", str(port).encode())]))
            async with asyncio.timeout(_LISTEN_TIMEOUT_S):
                kind, payload = await channel.take()
        except TimeoutError as error:
            raise EngineFailure("the sandbox does not answer") from error
        finally:
            self._connection.release(number)
        if kind == frames.FAILED and payload.startswith(b"EADDRINUSE\0"):
            raise port_taken(port)
        if kind == frames.FAILED:
            raise EngineFailure("the sandbox cannot listen on its loopback")
        if kind != frames.DONE:
            self._raise_for(kind, payload, "")

    async def put(self, path: str, content: Content) -> None:
        """Write a file whole or not at all, as the sandbox's user; parents are made.

        Raises InvalidRequest (a directory is in the way, not writable, name too long), SandboxFull.
        """
        number, channel = self._connection.open()
        try:
            self._connection.send(encode_fields(frames.PUT, number, [("path", path.encode())]))
            for frame in encode_content(number, content):
                self._connection.send(frame)
                await self._connection.drain()
            kind, payload = await channel.take()
            if kind != frames.DONE:
                self._raise_for(kind, payload, path)
        finally:
            self._connection.release(number)

    async def get(self, path: str, max_bytes: int) -> Content:
        """Read a regular file as the sandbox's user. Raises NotFound, InvalidRequest (a directory, not a
        regular file, over max_bytes)."""
        number, channel = self._connection.open()
        content = bytearray()
        try:
            fields: list[tuple[str, Content]] = [("path", path.encode()), ("max", str(max_bytes).encode())]
            self._connection.send(encode_fields(frames.GET, number, fields))
            while True:
                kind, payload = await channel.take()
                if kind == frames.END:
                    return content
                if kind != frames.DATA or len(content) + len(payload) > max_bytes:
                    self._raise_for(kind, payload, path)
                content += payload
        finally:
            self._connection.release(number)

    def _raise_for(self, kind: int, payload: bytes, path: str) -> None:
        """What a FAILED frame means; anything else is a runner that has lost its way, or was taken over."""
        if kind != frames.FAILED:
            self._connection.close()
            raise EngineFailure("the sandbox broke the protocol")
        raise failure(payload, path)


def port_taken(port: int) -> Conflict:
    """What a caller is told whose own program is in the way."""
    return Conflict(f"A program in the sandbox has taken port {port}, which its network needs")


def failure(payload: bytes, path: str) -> Isol8Error:
    """The error behind a FAILED frame about `path`. The text comes from us: what a runner says is not shown."""
    name = payload.split(b"\0", 1)[0].decode("ascii", errors="replace")
    if name in ("ENOENT", "ENOTDIR"):
        return NotFound(f"File not found: {path}")
    if name in ("ENOSPC", "EDQUOT", "ENOMEM"):
        return SandboxFull(f"No room in the sandbox for {path}")
    reasons = {
        "EISDIR": "is a directory",
        "EACCES": "is not a file in a writable directory",
        "EFBIG": "is too large",
        "ENAMETOOLONG": "is too long a name",
        "ELOOP": "has too many symbolic links",
        "EEXIST": "has a file where a directory is needed",
        "ENXIO": "is not a regular file",
    }
    if name in reasons:
        return InvalidRequest(f"{path} {reasons[name]}", code=TOO_LARGE if name == "EFBIG" else None)
    return EngineFailure(f"the sandbox could not handle {path}")


def _start(number: int, plan: Plan, output_bytes: int) -> bytes:
    fields: list[tuple[str, Content]] = [
        ("executable", plan.executable.encode()),
        ("path", plan.path.encode()),
        ("source", plan.source),
        ("cwd", plan.workdir.encode()),
        ("warm", b"1" if plan.warm else b"0"),
        ("cap", str(output_bytes).encode()),
        *(("argv", value.encode()) for value in plan.argv),
        *(("env", f"{name}={value}".encode()) for name, value in plan.env.items()),
    ]
    return encode_fields(frames.START, number, fields)


def _stdin(number: int, content: Content) -> bytes:
    """All of a short standard input, and its end."""
    end = encode(frames.STDIN, number)
    return encode(frames.STDIN, number, content) + end if content else end
