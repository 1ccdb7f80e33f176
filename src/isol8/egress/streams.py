"""Byte streams with one interface, whether there is TLS on them or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

CHUNK_BYTES = 64 * 1024


class Stream(Protocol):
    """One side of a conversation. Every method raises OSError when the other side is gone."""

    async def read(self) -> bytes:
        """What comes next; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send it, and wait until most of what was sent before is on its way."""

    async def end(self) -> None:
        """Nothing more will be written. Reading goes on where the kind of stream allows that."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


class PlainStream:
    """A connection. `spend` is told of every byte, before it goes on."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spend: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._spend = spend

    @property
    def ended(self) -> bool:
        """Whether the other side has closed it, as far as is known by now."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def read(self) -> bytes:
        """See Stream."""
        data = await self._reader.read(CHUNK_BYTES)
        self._spend(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """See Stream."""
        self._spend(len(data))
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        """See Stream."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def close(self) -> None:
        """See Stream. What is still unsent is sent if it can be."""
        self._writer.close()


class Rewound:
    """A stream of which something was read already, and is read again."""

    def __init__(self, first: bytes, stream: Stream) -> None:
        self._first = first
        self._stream = stream

    async def read(self) -> bytes:
        """See Stream."""
        if self._first:
            data, self._first = self._first, b""
            return data
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        """See Stream."""
        await self._stream.write(data)

    async def end(self) -> None:
        """See Stream."""
        await self._stream.end()

    def close(self) -> None:
        """See Stream."""
        self._stream.close()


async def pass_on(source: Stream, target: Stream) -> None:
    """Everything, until the end. Raises OSError."""
    while data := await source.read():
        await target.write(data)
    await target.end()


async def pass_both_ways(one: Stream, other: Stream) -> None:
    """Until both have ended, or either fails."""
    async with asyncio.TaskGroup() as both:
        both.create_task(pass_on(one, other))
        both.create_task(pass_on(other, one))
