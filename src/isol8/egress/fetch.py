"""One download through a gate that keeps files: from the disk, or from the host and onto the disk.

What one sandbox gets, another may get later. So nothing of a request goes on to the host but its URL and credentials,
which are the name under which the answer is kept: neither fields that could have the host answer otherwise, nor a body.
And never over a connection that had anything else of a sandbox's on it: the host may have taken the end of that for the
beginning of another request. What is kept are whole files of which it is certain what they are: the host says that they
never change, or can be asked whether they have, or the URL has the file's digest in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import TypeVar

import h11

from isol8.egress.downloads import About, Downloads, Kept, Making
from isol8.egress.exchange import Outgoing, answer_fields
from isol8.egress.http1 import Incoming
from isol8.egress.resolver import Unreachable
from isol8.egress.target import has_body
from isol8.egress.veil import Fields

_KINDS = (b".whl", b".tar.gz", b".tgz", b".zip", b".metadata")
# Of requests that are not for the whole file as it is, or come from a client that is not an installer.
_OTHER = (b"range", b"cookie", b"upgrade", b"expect")
# As PyPI has it in its files' addresses: https://warehouse.pypa.io/api-reference (the digest is BLAKE2b of 256 bits).
_NAMED = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/[^/]+$")
_STRONG = re.compile(rb'"[\x21\x23-\x7e]{0,500}"')
_LONGEST_S = 365 * 24 * 3600
_PIECE_BYTES = 256 * 1024


File = TypeVar("File", Kept, Making)


async def _aside(work: Callable[[], File | None]) -> File | None:
    """Open a file in a thread. Nothing of it stays when nobody waits for it any more."""
    opening = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_opened)
        raise


def _close_opened(opening: asyncio.Future[File | None]) -> None:
    opened = None if opening.cancelled() or opening.exception() else opening.result()
    if opened:
        opened.close()


def is_download(request: h11.Request, path: str) -> bool:
    """Whether it asks for a whole file, and for nothing else."""
    names = [name for name, _ in request.headers]
    return (
        request.method == b"GET"
        and path.partition("?")[0].encode().endswith(_KINDS)
        and not has_body(request)
        and names.count(b"authorization") <= 1
        and not any(name in _OTHER or name.startswith(b"if-") for name in names)
    )


class Fetch:
    """One download. `look`; if it is `fresh`, `give` it, else `run`; then `close`. `began` says whether the client has
    had any of it; `spend` is told of every byte that is read from the disk."""

    def __init__(
        self,
        request: h11.Request,
        incoming: Incoming,
        origin: str,
        path: str,
        keep: Downloads,
        spend: Callable[[int], None],
    ) -> None:
        self.began = False
        self._incoming = incoming
        self._path = path
        self._downloads = keep
        self._spend = spend
        self._credentials = next((value for name, value in request.headers if name == b"authorization"), b"")
        name = [origin, path, self._credentials.decode("latin-1")]
        self._key = hashlib.sha256(json.dumps(name).encode()).hexdigest()
        self._kept: Kept | None = None
        self._making: Making | None = None

    @property
    def fresh(self) -> bool:
        """Whether it is on disk, and need not be asked for."""
        return self._kept is not None and time.time() < self._kept.about.until

    async def look(self) -> None:
        """Find it on disk."""
        async for _ in self._incoming.body():
            pass  # there is none, which the parser wants to be told
        self._kept = await _aside(lambda: self._downloads.find(self._key))
        if self._kept:
            self._spend(self._kept.size)  # its digest was computed, whether it is read or not

    def close(self) -> None:
        """Let go of the disk. Idempotent."""
        if self._kept:
            self._kept.close()
        if self._making:
            self._making.close()

    async def give(self) -> None:
        """The file from the disk, as the answer. Raises OSError."""
        kept = self._kept
        assert kept
        about = kept.about
        fields = [(b"Content-Length", b"%d" % kept.size), (b"Content-Type", about.type.encode("latin-1"))]
        if about.etag:
            fields.append((b"ETag", about.etag.encode()))
        await self._send(h11.Response(status_code=200, reason=b"OK", headers=fields))
        while data := await asyncio.to_thread(kept.read, _PIECE_BYTES):
            await self._send(h11.Data(data=data))
        await self._send(h11.EndOfMessage())

    async def run(self, outgoing: Outgoing, host: str) -> None:
        """Ask the host, and pass on what it answers. `outgoing` must have had no request but such as this one. Raises
        Stale, Unreachable, OSError."""
        await outgoing.send(h11.Request(method=b"GET", target=self._path, headers=self._fields(host)))
        await outgoing.send(h11.EndOfMessage())
        while isinstance(event := await outgoing.receive(), h11.InformationalResponse):
            if event.status_code == 101:
                raise Unreachable("the host switches to what nobody asked for")
        if not isinstance(event, h11.Response):
            raise Unreachable("the host closed the connection")
        if event.status_code == 304 and self._kept and self._kept.about.etag:
            await self._finish_unchanged(outgoing)
            return
        await self._begin_keeping(event)
        await self._send(h11.Response(status_code=event.status_code, reason=event.reason, headers=answer_fields(event)))
        await self._pass_on(outgoing)

    async def _finish_unchanged(self, outgoing: Outgoing) -> None:
        if not isinstance(await outgoing.receive(), h11.EndOfMessage):
            raise Unreachable("the host's answer contradicts itself")
        await self.give()

    async def _pass_on(self, outgoing: Outgoing) -> None:
        """The content. The last piece of it is given when the file is kept: with it, the client has enough."""
        held = b""
        while isinstance(event := await outgoing.receive(), h11.Data):
            if held:
                await self._send(h11.Data(data=held))
            held = bytes(event.data)
            if self._making and not self._making.take(held):
                self._making = None
        if not isinstance(event, h11.EndOfMessage):
            raise Unreachable("the host closed the connection")
        if self._making:
            self._making.finish()
        if held:
            await self._send(h11.Data(data=held))
        await self._send(h11.EndOfMessage())

    def _fields(self, host: str) -> Fields:
        fields = [(b"Host", host.encode()), (b"User-Agent", b"isol8"), (b"Accept", b"*/*")]
        fields.append((b"Accept-Encoding", b"identity"))
        if self._credentials:
            fields.append((b"Authorization", self._credentials))
        if self._kept and self._kept.about.etag:  # else it is fetched again
            fields.append((b"If-None-Match", self._kept.about.etag.encode()))
        return fields

    async def _begin_keeping(self, response: h11.Response) -> None:
        named = _NAMED.search(self._path.partition("?")[0])
        about = _about(response, fixed=named is not None)
        size = next((int(value) for name, value in response.headers if name == b"content-length"), None)
        if about is None or size is None:
            return
        # What is said about a file has an address made of its own, and a digest of its own.
        digest = "".join(named.groups()) if named and not self._path.partition("?")[0].endswith(".metadata") else ""
        self._making = await _aside(lambda: self._downloads.begin(self._key, about, size, digest))

    async def _send(self, event: h11.Event) -> None:
        self.began = True
        try:
            await self._incoming.send(event)
        except h11.LocalProtocolError as error:
            raise Unreachable(f"the host's answer contradicts itself: {error}") from None


def _about(response: h11.Response, *, fixed: bool) -> About | None:
    """What to keep of an answer besides its body; None if it must not be kept. `fixed`: the URL can mean no other."""
    fields: dict[bytes, bytes] = {}
    for name, value in response.headers:  # of two with one name, both count
        fields[name] = fields[name] + b"," + value if name in fields else value
    said = {part.strip().lower() for part in fields.get(b"cache-control", b"").split(b",")}
    if (
        response.status_code != 200
        or b"transfer-encoding" in fields
        or fields.get(b"content-encoding", b"identity").lower() != b"identity"
        or b"*" in fields.get(b"vary", b"")
        or any(part.startswith((b"no-store", b"private")) for part in said)
    ):
        return None
    etag = fields.get(b"etag", b"")
    known = etag.decode() if _STRONG.fullmatch(etag) else ""
    lasts = _LONGEST_S if fixed else _lifetime(said)
    if not known and not lasts:
        return None
    kind = fields.get(b"content-type", b"application/octet-stream")[:200].decode("latin-1")
    return About(kind, known, time.time() + lasts if lasts else 0.0)


def _lifetime(said: set[bytes]) -> int:
    """For how long (s) the host promises that nothing changes; 0 if it does not."""
    ages = [part.removeprefix(b"max-age=") for part in said if part.startswith(b"max-age=")]
    if b"immutable" not in said or len(ages) != 1 or not ages[0].isdigit():
        return 0
    return min(int(ages[0][:12]), _LONGEST_S)
