"""Secrets that never enter a sandbox: they reach their hosts and nobody else, and nobody sends them back."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isol8.egress.client import NetworkLog, OpenGate
from isol8.egress.veil import Cover
from isol8.model import BoundSecret
from tests.egress import world
from tests.egress.conftest import RunningProxy, allowing
from tests.egress.messages import HOST, OTHER, answers, get, hello, tunnel
from tests.egress.origins import Origins

VALUE = 'sk-s3cret/va"lue+<&>='
PLACEHOLDER = "isol8-secret-0123456789abcdef"
STRANGER = "stranger.example.com"
SECRET = BoundSecret(placeholder=PLACEHOLDER, value=VALUE, hosts=((HOST, 443), (STRANGER, 443), (world.PUBLIC, 443)))
FORMS = [
    VALUE, json.dumps(VALUE), quote(VALUE, safe=""), base64.b64encode(VALUE.encode()).decode(),
    base64.b64encode(f"user:{VALUE}".encode()).decode(), VALUE[3:],
]  # fmt: skip


class Keeper:
    """A gate whose policy binds SECRET, and TLS through it."""

    def __init__(self, opened: OpenGate, port: int) -> None:
        self.opened = opened
        self.port = port
        self.log: NetworkLog | None = None

    async def speak(self, sent: bytes, host: str = HOST, port: int = 443) -> bytes:
        """What comes back over TLS to `host`, whose certificate must be good."""
        context = ssl.create_default_context(cadata=self.opened.bundle.decode())
        context.set_alpn_protocols(["h2", "http/1.1"])
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        literal = f"[{host}]" if ":" in host else host
        writer.write(tunnel(literal, port))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await writer.start_tls(context, server_hostname=host)
        writer.write(sent)
        said = await reader.read()
        writer.close()
        return said


@asynccontextmanager
async def keeping(proxy: RunningProxy) -> AsyncIterator[Keeper]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    policy = allowing(HOST, OTHER, STRANGER, world.PUBLIC, secrets=(SECRET,))
    keeper = Keeper(await proxy.egress.open(listener, policy), port)
    try:
        yield keeper
    finally:
        keeper.log = await keeper.opened.close()


@pytest.fixture(autouse=True)
def _zone(origins: Origins) -> None:
    origins.zone[STRANGER] = [world.PUBLIC]


def request(path: str, *fields: str, host: str = HOST) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "Connection: close", "", ""]).encode()


def covered(said: bytes) -> bool:
    """Nothing in it gives the value away."""
    return not any(form.encode() in said for form in FORMS)


BEARER = f"Authorization: Bearer {PLACEHOLDER}"


async def test_the_host_gets_it(proxy: RunningProxy, origins: Origins) -> None:
    async with keeping(proxy) as keeper:
        said = await keeper.speak(request("/echo?q=1", BEARER, f"X-Key: a {PLACEHOLDER} b {PLACEHOLDER}"))
    assert origins.seen[0].fields["authorization"] == f"Bearer {VALUE}"
    assert origins.seen[0].fields["x-key"] == f"a {VALUE} b {VALUE}"
    assert origins.seen[0].name == HOST
    ((status, body),) = answers(said)
    assert status == 200
    assert covered(said)
    assert f"Bearer {'*' * len(VALUE)}\r\n".encode() in body
    assert keeper.log is not None
    assert [(entry.method, entry.path) for entry in keeper.log.entries] == [("GET", "/echo"), ("CONNECT", None)]


async def test_an_address_gets_it(proxy: RunningProxy, origins: Origins) -> None:
    async with keeping(proxy) as keeper:
        await keeper.speak(request("/echo", BEARER, host=world.PUBLIC), world.PUBLIC)
    assert origins.seen[0].fields["authorization"] == f"Bearer {VALUE}"


async def test_keep_alive(proxy: RunningProxy, origins: Origins) -> None:
    each = request("/echo", BEARER).replace(b"Connection: close\r\n", b"")
    async with keeping(proxy) as keeper:
        said = await keeper.speak(each * 3 + request("/echo", BEARER))
    assert [status for status, _ in answers(said)] == [200] * 4
    assert covered(said)
    assert origins.connections == [(world.PUBLIC, 443)]


async def test_basic_credentials(proxy: RunningProxy, origins: Origins) -> None:
    credentials = base64.b64encode(f"user:{PLACEHOLDER}".encode()).decode()
    async with keeping(proxy) as keeper:
        said = await keeper.speak(request("/echo", f"Authorization: Basic {credentials}"))
    given = origins.seen[0].fields["authorization"].removeprefix("Basic ")
    assert base64.b64decode(given).decode() == f"user:{VALUE}"
    assert covered(said)


@pytest.mark.parametrize("path", ["/echo", "/pieces", "/fields", "/base64", "/open"])
async def test_it_does_not_come_back(proxy: RunningProxy, origins: Origins, path: str) -> None:
    """In a body, in pieces of a byte, in the header, as base64, in a body that ends with the connection."""
    async with keeping(proxy) as keeper:
        said = await keeper.speak(request(path, BEARER, f"X-Key: {PLACEHOLDER}"))
    assert VALUE in origins.seen[0].raw.decode()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert covered(said)
    assert b"*" * len(VALUE) in said


async def test_it_does_not_come_back_compressed_or_in_parts(proxy: RunningProxy, origins: Origins) -> None:
    fields = (BEARER, "Accept-Encoding: gzip, br", "Range: bytes=0-40", "If-Range: x")
    async with keeping(proxy) as keeper:
        ((status, text),) = answers(await keeper.speak(request("/gzip", *fields)))
    assert (status, b"compressed" in text) == (502, True)
    assert origins.seen[0].fields["accept-encoding"] == "identity"
    assert not {"range", "if-range"} & origins.seen[0].fields.keys()


async def test_only_fields_are_filled_in(proxy: RunningProxy, origins: Origins) -> None:
    body = f"secret={PLACEHOLDER}".encode()
    sent = (
        f"POST /echo/{PLACEHOLDER} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    async with keeping(proxy) as keeper:
        await keeper.speak(sent.encode() + body)
    assert VALUE not in origins.seen[0].raw.decode()
    assert origins.seen[0].raw.endswith(body)


async def test_other_hosts_do_not_get_it(proxy: RunningProxy, origins: Origins) -> None:
    """Neither another host, nor this one over plain HTTP or another port, nor the proxy's own connection to one that
    cannot prove who it is."""
    plain = get("/echo", HOST, BEARER)
    inside = f"GET /echo HTTP/1.1\r\nHost: {HOST}\r\n{BEARER}\r\n\r\n".encode()
    async with keeping(proxy) as keeper:
        await keeper.speak(request("/echo", BEARER, host=OTHER), OTHER)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, _speak, keeper.port, plain)
        await loop.run_in_executor(None, _speak, keeper.port, tunnel(HOST, 80) + inside)
        await loop.run_in_executor(None, _speak, keeper.port, tunnel(HOST, 443) + inside)
        ((status, text),) = answers(await keeper.speak(request("/echo", BEARER, host=STRANGER), STRANGER))
    assert (status, b"certificate is not valid" in text) == (502, True)
    assert len(origins.seen) == 3
    assert all(seen.fields["authorization"] == f"Bearer {PLACEHOLDER}" for seen in origins.seen)


def _speak(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while data := connection.recv(65536):
            said += data
        return said


async def test_another_host_inside_the_tunnel(proxy: RunningProxy, origins: Origins) -> None:
    async with keeping(proxy) as keeper:
        ((status, _),) = answers(await keeper.speak(request("/echo", BEARER, host=OTHER)))
        assert status == 400
        ((status, _),) = answers(await keeper.speak(request(f"http://{OTHER}/echo", BEARER)))
        assert status == 400
        said = await asyncio.to_thread(_speak, keeper.port, tunnel(HOST) + hello(OTHER))
        assert said.endswith(bytes((21, 3, 3, 0, 2, 2, 49)))
        await _refuses_other_names(keeper)
    assert origins.seen == []


async def _refuses_other_names(keeper: Keeper) -> None:
    context = ssl.create_default_context(cadata=keeper.opened.bundle.decode())
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", keeper.port)
    writer.write(tunnel(HOST))
    await reader.readuntil(b"\r\n\r\n")
    with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
        await writer.start_tls(context, server_hostname=OTHER)
    writer.close()


async def test_no_websocket_with_secrets(proxy: RunningProxy, origins: Origins) -> None:
    """Nothing could be taken out of what comes over one: it is answered as if it had not been asked for."""
    async with keeping(proxy) as keeper:
        upgrade = request("/socket", BEARER, "Upgrade: websocket").replace(b"close", b"Upgrade")
        ((status, _),) = answers(await keeper.speak(upgrade))
    assert status == 502  # this host switches all the same
    assert "upgrade" not in origins.seen[0].fields


async def test_without_secrets_there_is_no_authority(proxy: RunningProxy, origins: Origins) -> None:
    opened = await proxy.egress.open(socket.create_server(("127.0.0.1", 0)), allowing(HOST))
    assert opened.bundle == b""
    await opened.close()


_SECRETS = st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)  # a machine may be busy
@given(data=st.data(), secrets=_SECRETS)
def test_a_cover_does_not_depend_on_the_pieces(data: st.DataObject, secrets: list[bytes]) -> None:
    parts = st.one_of(st.sampled_from(secrets), st.binary(max_size=5))
    text = b"".join(data.draw(st.lists(parts, max_size=10)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cover = Cover(secrets)
    ends = [0, *cuts, len(text)]
    out = b"".join(cover.feed(text[start:end]) for start, end in pairwise(ends)) + cover.finish()
    assert len(out) == len(text)
    assert not any(secret in out for secret in secrets if secret.strip(b"*"))
    assert all(after in (before, ord("*")) for before, after in zip(text, out, strict=True))
