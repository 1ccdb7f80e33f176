"""A proxy of builds, and sandboxes that download through it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from isol8.model import EgressPolicy
from tests.egress import world
from tests.egress.conftest import RunningProxy, Surroundings, allowing, running_proxy
from tests.egress.messages import HOST, OTHER, answers, tunnel
from tests.egress.origins import Seen

STRANGER = "stranger.example.com"
TOTAL = 1 << 20
FOREVER = "Cache-Control: public, max-age=31536000, immutable"
TAGGED = 'ETag: "1"'


@dataclass(frozen=True)
class Sandbox:
    """One build's: a gate of its own, at `port`; `authority` is whom it trusts besides."""

    port: int
    authority: bytes

    async def speak(self, sent: bytes, host: str = HOST, port: int = 443) -> bytes:
        """What comes back to it, to the end: over TLS, or in the clear for port 80."""
        async with self.connection() as (reader, writer):
            if port == 443:
                writer.write(tunnel(host))
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                context = ssl.create_default_context(cadata=self.authority.decode())
                await writer.start_tls(context, server_hostname=host)
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                return await reader.read()
            return b""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """One to its proxy."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def get(self, path: str, *fields: str, host: str = HOST, port: int = 443) -> tuple[int, bytes]:
        """The answer to one request; (0, …) and what came, when it broke off."""
        said = await self.speak(request(path, *fields, host=host, port=port), host, port)
        return whole(said)


def request(
    path: str, *fields: str, host: str = HOST, port: int = 443, method: str = "GET", last: bool = True
) -> bytes:
    """A request as an installer sends it, in a tunnel or to a proxy."""
    target = path if port == 443 else f"http://{host}{path}"
    ending = ["Connection: close"] if last else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, *ending, "", ""]).encode()


def whole(said: bytes) -> tuple[int, bytes]:
    """The one answer in what came."""
    try:
        (answer,) = answers(said)
    except Exception:  # noqa: BLE001 - h11 says in many ways that it is not whole
        return 0, said
    return answer


@dataclass(frozen=True)
class Shelf:
    """The proxy and the directory in which it keeps files."""

    proxy: RunningProxy
    directory: Path
    certificates: str

    @asynccontextmanager
    async def sandbox(self, policy: EgressPolicy | None = None) -> AsyncIterator[Sandbox]:
        """One that may reach HOST, OTHER and STRANGER, from all of which files are kept."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        policy = dataclasses.replace(policy or building(), certificates=self.certificates)
        opened = await self.proxy.egress.open(listener, policy)
        try:
            yield Sandbox(port, opened.bundle)
        finally:
            await opened.close()

    async def get(self, path: str, *fields: str, host: str = HOST, port: int = 443) -> tuple[int, bytes]:
        """As a sandbox that nobody has used before gets it."""
        async with self.sandbox() as sandbox:
            return await sandbox.get(path, *fields, host=host, port=port)

    def files(self) -> list[Path]:
        """What is kept."""
        return sorted(path for path in self.directory.iterdir() if not path.name.startswith("."))


def building(*hosts: str, **more: object) -> EgressPolicy:
    hosts = hosts or (HOST, OTHER, STRANGER, world.PUBLIC)
    origins = tuple(f"{scheme}://{host}:{port}" for host in hosts for scheme, port in (("https", 443), ("http", 80)))
    return allowing(*hosts, downloads=origins, **more)


@contextmanager
def shelving(
    surroundings: Surroundings, directory: Path, environment: dict[str, str] | None = None, *, killed: bool = False
) -> Iterator[Shelf]:
    """A proxy of builds over a directory that may be others' too. `killed`: the test kills it."""
    kept = directory / "downloads"
    log = directory / f"log-{os.urandom(4).hex()}"
    with running_proxy(
        surroundings, log, environment or {}, killed=killed, downloads=str(kept), downloads_bytes=TOTAL
    ) as proxy:
        yield Shelf(proxy, kept, surroundings.bundle.read_text())


def file(content: bytes, *fields: str, status: str = "200 OK") -> Callable[[Seen], bytes]:
    """How an origin answers: with a file, or that it is still the same."""

    def answer(seen: Seen) -> bytes:
        tag = next((field.partition(": ")[2] for field in fields if field.startswith("ETag: ")), None)
        if tag and seen.fields.get("if-none-match") == tag:
            return "\r\n".join(["HTTP/1.1 304 Not Modified", *fields, "", ""]).encode()
        head = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(content)}", "", ""]
        return "\r\n".join(head).encode() + content

    return answer


def named(content: bytes, name: str = "a-1.0-py3-none-any.whl") -> str:
    """A path as PyPI makes it of a file's digest."""
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}"
