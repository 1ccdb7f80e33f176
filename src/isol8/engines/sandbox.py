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

from isol8.engines.connection import Connection
from isol8.errors import Conflict, EngineFailure, InvalidRequest, Isol8Error, NotFound, SandboxFull
from isol8.model import Content, Plan, SandboxSpec
from isol8.runner import frames
from isol8.runner.frames import encode, encode_content, encode_fields

# For a machine that is busy: who does not answer by then is destroyed, and a session loses all it has.
_KILL_TIMEOUT_S = 30.0
_LISTEN_TIMEOUT_S = 30.0
TOO_LARGE = "too_large"
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

    async def run(
        self, plan: Plan, *, stdin: Content, output_bytes: int, last: bool = False
    ) -> AsyncGenerator[Chunk | Exit, None]:
        """Start the program; yields what it writes and ends with exactly one Exit. The runner stops relaying
        a stream after `output_bytes` + 1 bytes (so that the caller can tell) and reads the rest away.
        `last`: none will be run after it, so that Exit may come while the kernel still has its memory, ports and locks.
        One at a time. Closing the iterator early does not kill the program: use `kill`.

        Raises InvalidRequest or SandboxFull when the program file cannot be written.
        """
        number, channel = self._connection.open()
        feeding: asyncio.Task[None] | None = None
        left, counted = dict.fromkeys(_STREAMS, output_bytes + 1), False
        try:
            if len(stdin) <= frames.CHUNK_BYTES:
                self._connection.send(_start(number, plan, output_bytes, last) + _stdin(number, stdin))
            else:
                self._connection.send(_start(number, plan, output_bytes, last))
                feeding = asyncio.create_task(self._feed(number, stdin))
            while True:
                kind, payload = await channel.take()
                if kind in _STREAMS:
                    if len(payload) > left[kind]:
                        # Nobody counts where no runner runs: one is to, and to read the rest away.
                        if not counted:
                            self._connection.send(encode(frames.TAKE_OVER, 0))
                        counted, payload = True, payload[: left[kind]]
                    left[kind] -= len(payload)
                    if payload:
                        yield Chunk(_STREAMS[kind], payload)
                elif kind == frames.EXIT and len(payload) == 4:
                    yield Exit(int.from_bytes(payload, "big") & 0xFF)
                    return
                elif kind == frames.STATUS and len(payload) == 4:
                    yield Exit(_exit_code(int.from_bytes(payload, "little")))
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
        Raises EngineFailure if the runner does not confirm within half a minute: destroy the sandbox then."""
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


def _exit_code(status: int) -> int:
    """Of a status as wait(2) has it."""
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


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


def _start(number: int, plan: Plan, output_bytes: int, last: bool) -> bytes:
    fields: list[tuple[str, Content]] = [
        ("executable", plan.executable.encode()),
        ("path", plan.path.encode()),
        ("source", plan.source),
        ("cwd", plan.workdir.encode()),
        ("warm", b"1" if plan.warm else b"0"),
        ("cap", str(output_bytes).encode()),
        ("last", b"1" if last else b"0"),
        *(("argv", value.encode()) for value in plan.argv),
        *(("env", f"{name}={value}".encode()) for name, value in plan.env.items()),
    ]
    return encode_fields(frames.START, number, fields)


def _stdin(number: int, content: Content) -> bytes:
    """All of a short standard input, and its end."""
    end = encode(frames.STDIN, number)
    return encode(frames.STDIN, number, content) + end if content else end
