"""A runsc process and its pipes, as one stream for the API process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence

_LOG = logging.getLogger("isol8.gvisor")
_CHUNK_BYTES = 64 * 1024
_SHOWN_BYTES = 2000


class Stream:
    """`start`, then `begin`, then at some time `close`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tasks: list[asyncio.Task[None]] = []
        self._errors = asyncio.create_task(self._log_errors())

    @classmethod
    async def start(cls, command: Sequence[str]) -> Stream:
        """Start a process. Raises OSError."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=_CHUNK_BYTES,
            start_new_session=True,
            # Nothing of the server's. And where TMPDIR points, gVisor would make the root of its own processes,
            # which are nobody's: a directory that is closed to others will not do.
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return cls(process)

    def begin(self, first: bytes) -> int:
        """Send `first`, then carry bytes both ways. The API process's end of the socket (the caller's to close)."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._tasks = [asyncio.create_task(self._carry(ours, first))]
        return theirs.detach()

    async def _carry(self, ours: socket.socket, first: bytes) -> None:
        reader, writer = await asyncio.open_connection(sock=ours, limit=_CHUNK_BYTES)
        both = [
            asyncio.create_task(self._inwards(reader, first)),
            asyncio.create_task(self._outwards(writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()
            assert self._process.stdin
            self._process.stdin.close()

    async def _inwards(self, reader: asyncio.StreamReader, first: bytes) -> None:
        assert self._process.stdin
        data = first
        while data:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
            data = await reader.read(_CHUNK_BYTES)

    async def _outwards(self, writer: asyncio.StreamWriter) -> None:
        assert self._process.stdout
        while data := await self._process.stdout.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()

    async def _log_errors(self) -> None:
        assert self._process.stderr
        said = 0
        while data := await self._process.stderr.read(_CHUNK_BYTES):
            if said < _SHOWN_BYTES:
                _LOG.error("runsc said: %s", data[:_SHOWN_BYTES].decode(errors="replace").strip())
            said += len(data)

    async def close(self) -> None:
        """Let go of both sides, and kill the process. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait until the process, and whoever holds its pipes, is gone."""
        await self._process.wait()
        self._errors.cancel()
        await asyncio.gather(self._errors, return_exceptions=True)
