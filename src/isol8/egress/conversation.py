"""One connection from a sandbox: requests, one after the other, and what becomes of each."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import h11

from isol8.egress.authority import Authority
from isol8.egress.downloads import Downloads
from isol8.egress.exchange import Exchange, Outgoing, Stale
from isol8.egress.fetch import Fetch, is_download
from isol8.egress.gate import Blocked, Gate, Note
from isol8.egress.hello import HANDSHAKE, InvalidHello, parse_hello
from isol8.egress.http1 import BadRequest, Incoming
from isol8.egress.resolver import Unreachable
from isol8.egress.streams import PlainStream, Rewound, Stream, pass_both_ways
from isol8.egress.target import Origin, Target, has_body, objection_to, read_target
from isol8.egress.tls import TlsStream
from isol8.egress.veil import Veil

_TLS_TIMEOUT_S = 20.0
_FIRST_BYTES_TIMEOUT_S = 60.0
# A fatal alert, access_denied (RFC 8446, 6): what a client that began with TLS understands.
_DENIED = bytes((21, 3, 3, 0, 2, 2, 49))
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Means:
    """What the conversations of a gate share. `authority` signs for hosts whose TLS ends here, `trust` checks the hosts
    themselves, `downloads` are the files that are kept."""

    authority: Authority
    trust: ssl.SSLContext
    downloads: Downloads | None = None


class Conversation:
    """`run` it once. `origin` is None for the connection to the proxy itself; else `ready` is a connection to it."""

    def __init__(
        self,
        gate: Gate,
        means: Means,
        incoming: Incoming,
        origin: Origin | None = None,
        ready: socket.socket | None = None,
    ) -> None:
        self._gate = gate
        self._means = means
        self._incoming = incoming
        self._origin = origin
        self._ready = ready
        self._outgoing: Outgoing | None = None
        self._reached: tuple[str, int] | None = None
        self._note: Note | None = None

    async def run(self) -> None:
        """Until either side ends it. Raises OSError."""
        try:
            while await self._next():
                pass
        finally:
            self._hang_up()
            if self._ready:
                self._ready.close()

    def _hang_up(self) -> None:
        if self._outgoing:
            self._outgoing.close()
        self._outgoing = self._reached = None

    def _spend(self, size: int) -> None:
        if self._note:
            self._note.bytes += size
        self._gate.spend(size)

    async def _next(self) -> bool:
        """One request; whether another may follow."""
        try:
            request = await self._incoming.next_request()
            if request is None:
                return False
            target = read_target(request, self._origin)
        except BadRequest as error:
            await self._incoming.answer(error.status, str(error))
            return False
        shown = None if target.path is None else target.path.partition("?")[0]
        note = self._note = self._gate.note(request.method.decode(), target.host, target.port, shown)
        try:
            return await self._carry_out(request, target)
        except Blocked as error:
            note.rule = str(error)
            await self._incoming.answer(403, f"blocked by the network policy: {error}")
        except Unreachable as error:
            await self._incoming.answer(502, f"{target.host}: {error}")
        except BadRequest as error:
            await self._incoming.answer(error.status, str(error))
        finally:
            self._gate.close_note(note)
        return False

    async def _carry_out(self, request: h11.Request, target: Target) -> bool:
        if target.flaw:
            raise Blocked(target.flaw)
        if target.path is None:
            await (self._end_tunnel if self._kept(target, secure=True) else self._tunnel)(target.host, target.port)
            return False
        self._gate.check(target.host, target.port)
        downloads = self._kept(target, secure=self._secure)
        if downloads and is_download(request, target.path):
            return await self._download(request, target, target.path, downloads)
        exchange = await self._exchange(request, target, target.path)
        if exchange is None or not exchange.upgraded:
            return exchange is not None and self._incoming.reusable
        assert self._outgoing is not None
        await pass_both_ways(
            Rewound(self._incoming.rest, self._incoming.stream), Rewound(self._outgoing.rest, self._outgoing.stream)
        )
        return False

    async def _exchange(self, request: h11.Request, target: Target, path: str) -> Exchange | None:
        """The request passed on and answered; None when the answer broke off, and cannot be mended."""
        secrets = self._gate.secrets(target.host, target.port) if self._secure else ()
        authority = target.authority(443 if self._secure else 80)
        while True:
            outgoing = await self._reach(target.host, target.port, pure=False)
            exchange = Exchange(self._incoming, outgoing, Veil(secrets) if secrets else None)
            try:
                await exchange.run(request, path, authority)
            except Stale:
                self._hang_up()
                if has_body(request):
                    raise Unreachable("the host closed the connection") from None
            except (Unreachable, BadRequest):
                if exchange.began:
                    return None
                raise
            else:
                return exchange

    async def _download(self, request: h11.Request, target: Target, path: str, downloads: Downloads) -> bool:
        """A file of which there may be a copy here, or will be one; whether another request may follow."""
        origin = target.origin(secure=self._secure)
        fetch = Fetch(request, self._incoming, origin, path, downloads, self._spend)
        try:
            await fetch.look()
            if fetch.fresh:
                await fetch.give()
                return self._incoming.reusable
            while True:
                outgoing = await self._reach(target.host, target.port, pure=True)
                try:
                    await fetch.run(outgoing, target.authority(443 if self._secure else 80))
                except Stale:
                    self._hang_up()
                else:
                    return self._incoming.reusable
        except Unreachable:
            if fetch.began:
                return False
            raise
        finally:
            fetch.close()

    def _kept(self, target: Target, *, secure: bool) -> Downloads | None:
        """The files that are kept, if those from there are."""
        return self._means.downloads if self._gate.keeps(target.origin(secure=secure)) else None

    @property
    def _secure(self) -> bool:
        return self._origin is not None and self._origin.secure

    async def _reach(self, host: str, port: int, *, pure: bool) -> Outgoing:
        """A connection to the host that can take a request: the last one, if it can, or another. `pure`: of those that
        are (Outgoing). Raises Blocked, Unreachable."""
        last = self._outgoing
        if last and self._reached == (host, port) and (last.pure or not pure) and last.renew():
            last.pure = pure
            return last
        self._hang_up()
        connection, self._ready = self._ready, None
        stream = await self._open(connection or await self._gate.connect(host, port), host)
        self._outgoing, self._reached = Outgoing(stream, pure=pure), (host, port)
        return self._outgoing

    async def _open(self, connection: socket.socket, host: str) -> PlainStream:
        """The stream of a connection, with TLS on it in a secure conversation. Raises Unreachable."""
        tls: dict[str, Any] = {}
        if self._secure:
            tls = {"ssl": self._means.trust, "server_hostname": host, "ssl_handshake_timeout": _TLS_TIMEOUT_S}
        try:
            reader, writer = await asyncio.open_connection(sock=connection, **tls)
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"the host's certificate is not valid: {error.verify_message}") from None
        except OSError:
            raise Unreachable("no TLS connection to the host") from None
        return PlainStream(reader, writer, self._spend)

    async def _tunnel(self, host: str, port: int) -> None:
        """CONNECT. Raises Blocked and Unreachable before it is answered; what follows then must be TLS that names this
        very host, or plain HTTP to it."""
        connection = await self._gate.connect(host, port)
        try:
            data = await self._establish(host)
        except BaseException:
            connection.close()
            raise
        if not data:
            connection.close()
        elif data[0] != HANDSHAKE or self._gate.secrets(host, port):
            await self._converse(data, host, port, connection)
        else:
            target = await self._open(connection, host)
            try:
                await pass_both_ways(Rewound(data, self._incoming.stream), target)
            finally:
                target.close()

    async def _end_tunnel(self, host: str, port: int) -> None:
        """CONNECT to a host whose files are kept: TLS ends here. There is no connection before there is a need for one,
        since there may be a copy of all that is asked for. Raises Blocked before it is answered."""
        self._gate.check(host, port)
        data = await self._establish(host)
        if data:
            await self._converse(data, host, port, None)

    async def _establish(self, host: str) -> bytes:
        """Say that there is a tunnel. What comes first through it, a whole hello if it is TLS; empty at the end."""
        await self._incoming.stream.write(_ESTABLISHED)
        data = await self._first_bytes()
        return await self._read_hello(data, host) if data[:1] == bytes((HANDSHAKE,)) else data

    async def _converse(self, data: bytes, host: str, port: int, connection: socket.socket | None) -> None:
        """HTTP inside the tunnel, TLS or not; `data` came first."""
        origin = Origin(host, port, secure=data[0] == HANDSHAKE)
        if origin.secure:
            await self._end_tls(Rewound(data, self._incoming.stream), origin, connection)
        else:
            await self._inside(Incoming(self._incoming.stream, data), origin, connection)

    async def _first_bytes(self) -> bytes:
        if self._incoming.rest:
            return self._incoming.rest
        async with asyncio.timeout(_FIRST_BYTES_TIMEOUT_S):
            return await self._incoming.stream.read()

    async def _read_hello(self, data: bytes, host: str) -> bytes:
        """All that was sent until the whole hello was there; empty if it must go no further, and the client is told."""
        try:
            async with asyncio.timeout(_TLS_TIMEOUT_S):
                while (hello := parse_hello(data)) is None:
                    piece = await self._incoming.stream.read()
                    if not piece:
                        return b""
                    data += piece
            rule = objection_to(hello, host)
        except InvalidHello as error:
            rule = f"what began as TLS is not: {error}"
        if not rule:
            return data
        assert self._note is not None
        self._note.rule = rule
        await self._incoming.stream.write(_DENIED)
        return b""

    async def _end_tls(self, stream: Stream, origin: Origin, connection: socket.socket | None) -> None:
        try:
            clear = await TlsStream.accept(stream, self._means.authority.context(origin.host))
        except BaseException:
            if connection:
                connection.close()
            raise
        await self._inside(Incoming(clear), origin, connection)
        await clear.end()

    async def _inside(self, incoming: Incoming, origin: Origin, connection: socket.socket | None) -> None:
        await Conversation(self._gate, self._means, incoming, origin, connection).run()
