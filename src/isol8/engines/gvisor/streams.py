"""A runsc process and its pipes, as one stream for the API process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence

from isol8.engines.carrying import CHUNK_BYTES, Carrying

_LOG = logging.getLogger("isol8.gvisor")
_SHOWN_BYTES = 2000


class Stream:
    """`start`, then `begin`, then at some time `close`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._carrying: Carrying | None = None
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
            limit=CHUNK_BYTES,
            start_new_session=True,
            # Nothing of the server's. And where TMPDIR points, gVisor would make the root of its own processes,
            # which are nobody's: a directory that is closed to others will not do.
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return cls(process)

    async def begin(self, first: bytes) -> int:
        """Send `first`, then carry bytes both ways. The API process's end of the socket (the caller's to close)."""
        assert self._process.stdin
        self._process.stdin.write(first)
        self._carrying, theirs = await Carrying.begin(self._inwards, self._outwards, self._process.stdin.close)
        return theirs

    async def _inwards(self, reader: asyncio.StreamReader) -> None:
        assert self._process.stdin
        await self._process.stdin.drain()
        while data := await reader.read(CHUNK_BYTES):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def _outwards(self, writer: asyncio.StreamWriter) -> None:
        assert self._process.stdout
        while data := await self._process.stdout.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()

    async def _log_errors(self) -> None:
        assert self._process.stderr
        said = 0
        while data := await self._process.stderr.read(CHUNK_BYTES):
            if said < _SHOWN_BYTES:
                _LOG.error("runsc said: %s", data[:_SHOWN_BYTES].decode(errors="replace").strip())
            said += len(data)

    async def close(self) -> None:
        """Let go of both sides, and kill the process. Idempotent."""
        if self._carrying:
            await self._carrying.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait until the process, and whoever holds its pipes, is gone."""
        await self._process.wait()
        self._errors.cancel()
        await asyncio.gather(self._errors, return_exceptions=True)
