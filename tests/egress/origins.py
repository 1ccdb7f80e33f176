"""What there is in the world: hosts that answer over HTTP and TLS, and a name server. They remember what came."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from isol8.egress.authority import Authority
from tests.egress import world
from tests.egress.world import World

SMALL = 64 * 1024


@dataclass
class Seen:
    """One request as an origin understood it. `raw` is its head and body."""

    host: str
    method: str
    path: str
    raw: bytes
    name: str | None = None  # SNI

    @property
    def fields(self) -> dict[str, str]:
        """Its header fields, names in lower case; the last of two with one name."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


_CLOSING = ("open", "both", "nonsense", "socket")
_SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
# A length and an encoding that contradict each other, and an answer to nothing in what only one of them covers.
_BOTH = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-Smuggled: yes\r\nContent-Length: 0\r\n\r\n"
)


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


def _sized(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def _whole_answer(kind: str, rest: str, seen: Seen) -> bytes:
    """An answer that is sent at once: by default, what was asked."""
    if kind == "redirect":
        return _sized(b"", f"Location: {rest}", status="302 Found")
    if kind == "gzip":
        return _sized(gzip.compress(seen.raw), "Content-Encoding: gzip")
    if kind == "fields":  # back in the header
        value = seen.fields.get("authorization", "")
        return _sized(b"", f"X-Echo: {value}", status=f"200 Is {value}")
    if kind == "base64":
        return _sized(base64.b64encode(seen.fields.get("x-key", "").encode()))
    if kind == "open":  # until the connection closes
        return b"HTTP/1.1 200 OK\r\n\r\n" + seen.raw
    if kind in ("both", "nonsense"):
        return _BOTH if kind == "both" else b"NONSENSE\r\n\r\n"
    answer = _sized(seen.raw)
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if seen.method == "HEAD" else answer


@dataclass
class Origins:
    """Everything that listens in the world. `zone` has what a name stands for: addresses, or a list of lists of which
    each question takes the next one. `seen` and `asked` are what came; `connections` (address and port) what was
    opened. `answers` are those to certain paths, as they go over the wire: one with `Connection: close` is the last.
    With `blind`, bodies of GET are not seen, and taken for the next request."""

    zone: dict[str, list[str] | list[list[str]]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    connections: list[tuple[str, int]] = field(default_factory=list)
    answers: dict[str, Callable[[Seen], bytes]] = field(default_factory=dict)
    blind: bool = False
    authority: Authority = field(default_factory=Authority)
    stranger: Authority = field(default_factory=Authority)  # nobody trusts it

    def clear(self) -> None:
        """Forget what came."""
        self.seen.clear()
        self.asked.clear()
        self.connections.clear()
        self.answers.clear()
        self.blind = False

    # HTTP

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as a lenient server has it: requests until the client has enough."""
        address, port = writer.get_extra_info("sockname")[:2]
        self.connections.append((address.removeprefix("::ffff:"), port))
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            while True:
                seen = await self._read(reader, writer)
                if seen is None:
                    break
                self.seen.append(seen)
                if not await self._answer(seen, reader, writer):
                    break
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seen | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        words = head.split(b"\r\n")[0].split(b" ")
        lower = head.lower()
        if b"\r\nexpect: 100-continue" in lower:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if b"\r\ntransfer-encoding: chunked" in lower:
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        elif b"\r\ncontent-length:" in lower and not (self.blind and words[0] == b"GET"):
            body = await reader.readexactly(int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]))
        tls = writer.get_extra_info("ssl_object")
        address = writer.get_extra_info("sockname")[0].removeprefix("::ffff:")
        return Seen(address, words[0].decode(), words[1].decode(), head + body, getattr(tls, "asked_for", None))

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        kind, _, rest = seen.path.lstrip("/").partition("/")
        if answer := self.answers.get(seen.path):
            said = answer(seen)
            writer.write(said)
            await writer.drain()
            return b"\r\nConnection: close" not in said
        if kind == "size":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(rest))
            await _send(writer, (bytes(SMALL) for _ in range(int(rest) // SMALL)))
            writer.write(bytes(int(rest) % SMALL))
        elif kind == "pieces":  # byte by byte, each one sent by itself
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await _send(writer, (b"1\r\n%c\r\n" % byte for byte in seen.raw))
            writer.write(b"0\r\n\r\n")
        elif kind == "hang":
            await reader.read()
        elif kind == "socket":  # WebSocket, as far as this goes: what comes goes back
            writer.write(_SWITCHED)
            while data := await reader.read(SMALL):
                await _send(writer, [b"<" + data + b">"])
        else:
            writer.write(_whole_answer(kind, rest, seen))
        await writer.drain()
        return seen.fields.get("connection") != "close" and kind not in _CLOSING

    # Names

    def answer_question(self, question: bytes) -> bytes:
        """What the name server answers (RFC 1035, 4.1)."""
        labels, at = [], 12
        while size := question[at]:
            labels.append(question[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name = ".".join(labels).lower()
        kind = int.from_bytes(question[at + 1 : at + 3], "big")
        self.asked.append(name)
        known = self.zone.get(name)
        found = [ipaddress.ip_address(text) for text in self._now(known, kind)] if known is not None else []
        length = {1: 4, 28: 16}.get(kind)
        records = [address.packed for address in found if len(address.packed) == length]
        head = question[:2] + (b"\x81\x80" if known is not None else b"\x81\x83") + b"\0\1"
        head += len(records).to_bytes(2, "big") + bytes(4)
        answers = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + bytes(4) + len(packed).to_bytes(2, "big") + packed
            for packed in records
        )
        return head + question[12 : at + 5] + answers

    def _now(self, known: list[str] | list[list[str]], kind: int) -> list[str]:
        first = known[0]
        if isinstance(first, str):
            return [text for text in known if isinstance(text, str)]
        if kind == 1 and len(known) > 1:
            known.pop(0)
        return first


class _Names(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(self._answer(data), address)  # type: ignore[attr-defined]


def _tls(origins: Origins) -> ssl.SSLContext:
    """As whatever host the client asks for, under an authority that the test trusts; `stranger.…` under another."""

    def chosen(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        authority = origins.stranger if name and name.startswith("stranger.") else origins.authority
        connection.context = authority.context(name or world.PUBLIC)
        connection.asked_for = name  # type: ignore[attr-defined]

    context = origins.authority.context(world.PUBLIC)
    context.sni_callback = chosen
    return context


@contextlib.contextmanager
def living(made: World) -> Iterator[Origins]:
    """The world with its hosts in it: ports 80, 8080 and 443 of every address, and names at NAMES."""
    origins = Origins()
    with made.abroad():
        plain = [_listener(port) for port in (80, 8080)]
        secure = [_listener(port) for port in (443, 8443)]
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((world.NAMES, 53))
    loop = asyncio.new_event_loop()
    stop: asyncio.Event = asyncio.Event()

    async def live() -> None:
        context = _tls(origins)
        servers = [await asyncio.start_server(origins.converse, sock=each) for each in plain]
        servers += [await asyncio.start_server(origins.converse, sock=each, ssl=context) for each in secure]
        transport, _ = await loop.create_datagram_endpoint(lambda: _Names(origins.answer_question), sock=names)
        await stop.wait()
        transport.close()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    try:
        yield origins
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _listener(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
