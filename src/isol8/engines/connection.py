"""The byte stream to a runner: frames, dealt out to the exchanges that they belong to.

What comes from a runner is untrusted. What is no frame ends the stream.
"""

from __future__ import annotations

import asyncio
from typing import cast

from isol8.errors import EngineFailure
from isol8.runner import frames
from isol8.runner.frames import Decoder, ProtocolError
from isol8.runner.resumption import Watch

_MAX_ANSWER_BYTES = 1024 * 1024
# What may wait to be taken before the runner is no longer read, and with that the program is held up.
_HIGH_WATER = 4 * 1024 * 1024
# A frame that waits is more than its payload, which may be empty.
_FRAME_BYTES = 256
_Frame = tuple[int, bytes]


class Channel:
    """The frames of one exchange, in order, until the connection ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames: list[_Frame] = []
        self._next = 0
        self._waiter: asyncio.Future[None] | None = None

    def push(self, frame: _Frame) -> None:
        """For the connection: a frame has come."""
        self._frames.append(frame)
        self.wake()

    def wake(self) -> None:
        """For the connection: there is news for who waits."""
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
    """The byte stream to a runner, cut into frames and dealt out to channels. `close` it."""

    def __init__(self) -> None:
        self.lost = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._watch: Watch | None = None
        self._decoder = Decoder(_MAX_ANSWER_BYTES)
        self._channels: dict[int, Channel] = {}
        self._number = 0
        self._held_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the stream is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its type

    def expect(self, mark: bytes) -> None:
        """Ignore what comes before `mark`: the stream may be in the middle of something. `ready` is for that now."""
        self._watch, self._decoder = Watch(mark), Decoder(_MAX_ANSWER_BYTES)
        self.ready = asyncio.get_running_loop().create_future()

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

    def give_up(self) -> None:
        """Tell who waits for the runner that it has not become ready in time."""
        if not self.ready.done():
            self.ready.set_exception(EngineFailure("a sandbox did not become ready"))

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

    def open(self) -> tuple[int, Channel]:
        """A new channel and its number. `release` it."""
        self._number += 1
        channel = self._channels[self._number] = Channel(self)
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
