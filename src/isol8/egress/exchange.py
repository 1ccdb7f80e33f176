"""One HTTP request passed on, and its answer passed back.

Both are written anew by h11: of the client's bytes only names, values and bodies go on, under framing of our own.
"""

from __future__ import annotations

import asyncio

import h11

from isol8.egress.http1 import MAX_HEAD_BYTES, Incoming
from isol8.egress.resolver import Unreachable
from isol8.egress.streams import PlainStream
from isol8.egress.veil import Cover, Fields, Veil

# RFC 9110, 7.6.1, and what older clients send to proxies. Framing is written anew.
_HOP_BY_HOP = {
    b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"proxy-authorization", b"proxy-authenticate", b"http2-settings",
}  # fmt: skip
_FRAMING = {b"content-length", b"host"}


class Stale(Exception):
    """A connection that was used before has been closed by the host, before it had anything of the request."""


class Outgoing:
    """A connection to a host, and HTTP/1.1 on it. `close` it. `pure`: of what went over it, a sandbox had a say in URLs
    and credentials alone."""

    def __init__(self, stream: PlainStream, *, pure: bool) -> None:
        self.stream = stream
        self.pure = pure
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._used = False

    @property
    def rest(self) -> bytes:
        """What came after the last answer."""
        return self._h11.trailing_data[0]

    def renew(self) -> bool:
        """Get ready for another request; False if none can follow."""
        if not self._used:
            return not self.stream.ended
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE or self.stream.ended:
            return False
        self._h11.start_next_cycle()
        return True

    async def send(self, event: h11.Event) -> None:
        """A part of the request. Raises Stale, Unreachable, Overspent."""
        data = self._h11.send(event)
        try:
            if data:
                await self.stream.write(data)
        except ConnectionError:
            raise self._gone() from None

    def _gone(self) -> Exception:
        """What it means that the host has closed the connection now."""
        if self._used and self._h11.their_state is h11.SEND_RESPONSE:
            return Stale()
        return Unreachable("the host closed the connection")

    async def receive(self) -> h11.Event:
        """A part of the answer. Raises Stale, Unreachable, Overspent."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise Unreachable(f"the host's answer is malformed: {str(error)[:200]}") from None
            if event is not h11.NEED_DATA:
                self._used = True
                assert isinstance(event, h11.Event)
                return event
            try:
                data = await self.stream.read()
            except ConnectionError:
                raise self._gone() from None
            if not data and self._h11.their_state is h11.SEND_RESPONSE:
                raise self._gone()
            self._h11.receive_data(data)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self.stream.close()


class Exchange:
    """`run` it once. `began` says whether the client has had any of the answer; `upgraded`, that both sides speak
    something else from now on."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing, veil: Veil | None) -> None:
        self.began = False
        self.upgraded = False
        self._incoming = incoming
        self._outgoing = outgoing
        self._veil = veil
        self._cover: Cover | None = None

    async def run(self, request: h11.Request, path: str, host: str) -> None:
        """Raises Stale (the host has not seen it), Unreachable, BadRequest, OSError."""
        fields = _request_fields(request, host, may_upgrade=self._veil is None)
        if self._veil:
            fields = self._veil.put_in(fields)
            self._cover = self._veil.cover()
        await self._outgoing.send(h11.Request(method=request.method, target=path, headers=fields))
        sending = asyncio.create_task(self._send_body())
        answering = asyncio.create_task(self._answer(request.http_version))
        try:
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await answering
        finally:
            # A host may answer, and hang up, before it has read everything.
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _send_body(self) -> None:
        """Raises BadRequest and OSError when the client does not send what it should."""
        async for piece in self._incoming.body():
            if not await self._deliver(h11.Data(data=piece)):
                return
        await self._deliver(h11.EndOfMessage())

    async def _deliver(self, event: h11.Event) -> bool:
        """False when the host is gone: what it had to say, if anything, is what `_answer` reads."""
        try:
            await self._outgoing.send(event)
        except (Stale, Unreachable):
            return False
        return True

    async def _answer(self, version: bytes) -> None:
        while True:
            event = await self._outgoing.receive()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    await self._switch(event)
                    return
                if version == b"1.1":
                    await self._give(h11.InformationalResponse(status_code=event.status_code, headers=[]))
            elif isinstance(event, h11.Response):
                await self._give(self._head(event))
            elif isinstance(event, h11.Data):
                await self._give_data(self._cover.feed(bytes(event.data)) if self._cover else bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._give_data(self._cover.finish() if self._cover else b"")
                await self._give(h11.EndOfMessage())
                return
            else:
                raise Unreachable("the host closed the connection")

    async def _give(self, event: h11.Event) -> None:
        self.began = self.began or not isinstance(event, h11.InformationalResponse)
        try:
            await self._incoming.send(event)
        except h11.LocalProtocolError as error:
            raise Unreachable(f"the host's answer contradicts itself: {error}") from None

    async def _give_data(self, data: bytes) -> None:
        if data:
            await self._give(h11.Data(data=data))

    def _head(self, response: h11.Response) -> h11.Response:
        fields = answer_fields(response)
        reason = bytes(response.reason)
        if self._cover:
            if any(name.lower() == b"content-encoding" and value.lower() != b"identity" for name, value in fields):
                raise Unreachable("the host's answer is compressed, and may hold a secret")
            fields = [(self._cover.whole(name), self._cover.whole(value)) for name, value in fields]
            reason = self._cover.whole(reason)
        return h11.Response(status_code=response.status_code, reason=reason, headers=fields)

    async def _switch(self, event: h11.InformationalResponse) -> None:
        fields = [*_end_to_end(event.headers.raw_items()), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        self.upgraded = True
        await self._give(h11.InformationalResponse(status_code=101, reason=event.reason, headers=fields))


def _end_to_end(fields: Fields) -> Fields:
    """Those that are meant for the other end of the conversation."""
    named = {
        part.strip().lower() for name, value in fields if name.lower() == b"connection" for part in value.split(b",")
    }
    dropped = (_HOP_BY_HOP | named) - _FRAMING
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def answer_fields(response: h11.Response) -> Fields:
    """Those of an answer that go on to the client."""
    fields = _end_to_end(response.headers.raw_items())
    if any(name == b"transfer-encoding" for name, _ in response.headers):
        fields = [(name, value) for name, value in fields if name.lower() != b"content-length"]
    return fields


def _request_fields(request: h11.Request, host: str, *, may_upgrade: bool) -> Fields:
    """The fields to send on. They ask for no other protocol than WebSocket: HTTP/2 over plain HTTP would go by unseen,
    and h11 takes no switch that was not asked for."""
    given = dict(iter(request.headers))
    fields = [(b"Host", host.encode())]
    fields += [item for item in _end_to_end(request.headers.raw_items()) if item[0].lower() != b"host"]
    if b"transfer-encoding" in given:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if may_upgrade and given.get(b"upgrade", b"").lower() == b"websocket" and request.http_version == b"1.1":
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return fields
