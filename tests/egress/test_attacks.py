"""What must not go through the proxy, whatever is said to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isol8.model import HostRule
from tests.egress import world
from tests.egress.conftest import Gate, RunningProxy, allowing
from tests.egress.messages import HOST, OTHER, answers, get, hello, tunnel, with_extension
from tests.egress.origins import Origins
from tests.support import machine

ANY = (HostRule("whitelist[0]", ".*"),)
HEAD = f"POST http://{HOST}/first HTTP/1.1\r\nHost: {HOST}\r\n".encode()
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {OTHER}\r\n\r\n".encode()


def _with(*fields: bytes, body: bytes = SMUGGLED) -> bytes:
    return HEAD + b"".join(fields) + b"\r\n" + body


AMBIGUOUS = {
    "both lengths": _with(b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED),
    "both, the other way": _with(
        b"Transfer-Encoding: chunked\r\n", b"Content-Length: 4\r\n", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "two lengths": _with(b"Content-Length: 0\r\n", b"Content-Length: 70\r\n"),
    "two lengths that agree": _with(b"Content-Length: 5\r\n", b"Content-Length: 5\r\n", body=b"12345"),
    "a list of lengths": _with(b"Content-Length: 0, 0\r\n"),
    "a length with a sign": _with(b"Content-Length: +0\r\n"),
    "a negative length": _with(b"Content-Length: -1\r\n"),
    "a hexadecimal length": _with(b"Content-Length: 0x10\r\n"),
    "a length in two words": _with(b"Content-Length: 1 0\r\n"),
    "an empty length": _with(b"Content-Length:\r\n"),
    "an enormous length": _with(b"Content-Length: 99999999999999999999999\r\n"),
    "a space before the colon": _with(b"Content-Length : 70\r\n"),
    "a space before the other colon": _with(b"Transfer-Encoding : chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED),
    "another encoding": _with(b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED),
    "an unknown encoding": _with(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n" + SMUGGLED),
    "identity": _with(b"Transfer-Encoding: identity\r\n"),
    "two encodings": _with(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n"),
    "a tab for a space": _with(b"Transfer-Encoding:\x0bchunked\r\n"),
    "a folded encoding": _with(b"Transfer-Encoding:\r\n chunked\r\n", body=b"0\r\n\r\n" + SMUGGLED),
    "a folded field": _with(b"X: 1\r\n\tContent-Length: 70\r\n"),
    "a folded first field": HEAD.replace(b"\r\nHost", b"\r\n Host") + b"\r\n" + SMUGGLED,
    "bare line feeds": get("/first").replace(b"\r\n", b"\n") + SMUGGLED,
    "one bare line feed": _with(b"X: 1\nContent-Length: 70\r\n"),
    "a bare carriage return": _with(b"X: 1\rContent-Length: 70\r\n"),
    "a zero byte": _with(b"X: 1\0\r\n"),
    "an escape": _with(b"X: \x1b[0m\r\n"),
    "an empty line first": b"\r\n" + get("/first"),
    "no field name": _with(b": 1\r\n"),
    "no colon": _with(b"Content-Length\r\n"),
    "chunks for HTTP/1.0": _with(b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    ),
    "HTTP/2": get("/first").replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/0.9": b"GET /first\r\n\r\n",
    "two spaces": get("/first").replace(b" HTTP", b"  HTTP"),
    "a tab in the request line": get("/first").replace(b"GET ", b"GET\t"),
    "two hosts": _with(f"Host: {OTHER}\r\n".encode()),
    "no host": f"GET http://{HOST}/first HTTP/1.1\r\n\r\n".encode(),
    "a path alone": f"GET /first HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
    "another scheme": get("/first").replace(b"http://", b"https://"),
    "a fragment": get("/first#x"),
    "the host of another": get("/first").replace(b"Host: allowed", b"Host: other"),
    "the port of another": get("/first").replace(b".com\r\n", b".com:8080\r\n"),
    "a field with a user": get("/first").replace(b"Host: ", b"Host: user@"),
    "not ASCII": get("/first").replace(b"/first", b"/f\xc3\xafrst"),
    "TLS at once": hello(HOST),
    "nonsense": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_requests_with_two_readings(proxy: RunningProxy, origins: Origins, name: str) -> None:
    async with proxy.gate() as gate:
        ((status, text),) = answers(await gate.speak(AMBIGUOUS[name] + SMUGGLED), "POST")
    assert 400 <= status < 600, text
    assert status not in (404, 502, 504), text
    assert text.startswith(b"isol8: ")
    assert origins.seen == []


CHUNKS = {
    "a bare line feed": b"5\n12345\r\n0\r\n\r\n",
    "a wrong length": b"4\r\n12345\r\n0\r\n\r\n",
    "no number": b"x\r\n12345\r\n0\r\n\r\n",
    "a sign": b"+5\r\n12345\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\n12345\r\n0\r\n\r\n",
    "too long a number": b"5" * 40 + b"\r\n12345\r\n0\r\n\r\n",
    "an extension without end": b"5;" + b"x" * 200_000,
    "no end": b"5\r\n12345\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
async def test_chunks_with_two_readings(proxy: RunningProxy, origins: Origins, name: str) -> None:
    async with proxy.gate() as gate:
        said = await gate.speak(_with(b"Transfer-Encoding: chunked\r\n", body=CHUNKS[name] + SMUGGLED))
    assert all(status == 400 for status, _ in answers(said, "POST")), said
    assert origins.seen == []  # what it got of this one has no end


async def test_a_body_is_a_body(proxy: RunningProxy, origins: Origins) -> None:
    """A request in a body, a method of its own, a body that GET has no use for."""
    sized = b"Content-Length: %d\r\n" % len(SMUGGLED)
    async with proxy.gate() as gate:
        await gate.speak(_with(sized) + get("/second"))
        await gate.speak(_with(sized).replace(b"POST", b"GET") + get("/third"))
        await gate.speak(_with(sized, b"Connection: content-length\r\n") + get("/fourth"))
    assert [seen.path for seen in origins.seen] == ["/first", "/second", "/first", "/third", "/first", "/fourth"]


async def test_a_host_with_two_readings(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate() as gate:
        said = await gate.speak(get("/both") + get("/echo"))
    assert b"X-Smuggled" not in said.partition(b"\r\n\r\n")[0]
    assert all(b"smuggled: yes" not in text.lower() for _, text in answers(said))


LONG = {
    "a line": get("/" + "x" * 70_000),
    "a field": get("/first", HOST, "X: " + "x" * 70_000),
    "many fields": get("/first", HOST, *(f"X-{index}: 1" for index in range(2000))),
    "a field without end": get("/first", HOST)[:-4] + b"\r\nX: " + b"x" * 3_000_000,
    "a line without end": b"x" * 3_000_000,
}


@pytest.mark.parametrize("name", LONG)
async def test_long_heads(proxy: RunningProxy, origins: Origins, name: str) -> None:
    async with proxy.gate() as gate:
        said = await gate.speak(LONG[name])
    # A client that goes on sending may lose the answer to the reset that this earns it.
    assert said[:13] in (b"HTTP/1.1 431 ", b"")
    assert origins.seen == []


NOTATIONS = (
    "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.01",
    "1.2.3", "0", "0x", "256.1.1.1", "1.2.3.4.5", "[::1", "::1", "[::1%25lo]", "[127.0.0.1]", "[::ffff:7f000001.1]",
    "127.0.0.1%00.example.com", "user@" + HOST, f"{HOST}@127.0.0.1", f"{HOST}\\@127.0.0.1", "a..b", ".", "-",
    "exa mple", "example.com-", "a" * 64 + ".com", ("a" * 60 + ".") * 5 + "com", "%61llowed.example.com",
    "allowed.example.com:80:80",
)  # fmt: skip


@pytest.mark.parametrize("host", NOTATIONS)
async def test_hosts_in_odd_notations(proxy: RunningProxy, origins: Origins, host: str) -> None:
    """Even where the policy would allow any host and any address."""
    policy = allowing(allow=(ANY,), ranges=("0.0.0.0/0", "::/0"))
    line = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    async with proxy.gate(policy) as gate:
        plain = answers(await gate.speak(line))[0]
        through = answers(await gate.speak(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode()))[0]
    assert plain[0] in (400, 403), plain
    assert through[0] in (400, 403), through
    assert (origins.seen, origins.connections, origins.asked) == ([], [], [])


@pytest.mark.parametrize(
    "address", [*world.PRIVATE, *world.PRIVATE_6, "127.0.0.1", "0.0.0.0", "::1", "::", world.MACHINE]
)
async def test_addresses_that_are_not_public(proxy: RunningProxy, origins: Origins, address: str) -> None:
    """As such, in their mapped form, and behind a name that is allowed; and the machine's own, though it is public."""
    literal = f"[{address}]" if ":" in address else address
    forms = [literal] if ":" in address else [literal, f"[::ffff:{address}]", f"[64:ff9b::{address}]"]
    origins.zone["inward.example.com"] = [address]
    with socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True) as mine:
        mine.setblocking(False)
        async with proxy.gate(allowing(allow=(ANY,))) as gate:
            for host in (*forms, "inward.example.com"):
                for port in (80, 8080):
                    authority = f"{host}:{port}"
                    ((status, text),) = answers(await gate.speak(get("/", authority)))
                    assert (status, b"no public address" in text) == (403, True), (authority, text)
                    ((status, text),) = answers(await gate.speak(tunnel(host, port)))
                    assert (status, b"no public address" in text) == (403, True), (authority, text)
        with pytest.raises(BlockingIOError):
            mine.accept()
    assert origins.connections == []
    assert not any(entry.allowed for entry in gate.log[0].entries)


async def test_addresses_that_the_policy_names(proxy: RunningProxy, origins: Origins) -> None:
    policy = allowing(
        "10.1.2.3", "10.1.2.4", "192.168.7.7", world.MACHINE, ranges=("10.1.2.3/32", f"{world.MACHINE}/32")
    )
    async with proxy.gate(policy) as gate:
        assert answers(await gate.speak(get("/", "10.1.2.3")))[0][0] == 200
        assert answers(await gate.speak(get("/", "10.1.2.4")))[0][0] == 403
        assert answers(await gate.speak(get("/", "192.168.7.7")))[0][0] == 403
        assert answers(await gate.speak(get("/", world.MACHINE)))[0][0] == 502  # nobody listens there


async def test_rebinding(proxy: RunningProxy, origins: Origins) -> None:
    """A name that is public when it is looked at, and private a moment later; and the other way round."""
    name = "rebind.example.com"
    origins.zone[name] = [[world.PUBLIC], ["10.1.2.3"], ["127.0.0.1"], [world.PUBLIC], ["10.1.2.3"]]
    async with proxy.gate(allowing(name)) as gate:
        told = [answers(await gate.speak(get("/", name)))[0][0] for _ in range(5)]
    assert told == [200, 403, 403, 200, 403]
    assert {address for address, _ in origins.connections} == {world.PUBLIC}


async def test_a_name_with_good_and_bad_addresses(proxy: RunningProxy, origins: Origins) -> None:
    origins.zone[HOST] = ["10.1.2.3", "127.0.0.1", world.PUBLIC, "fd00:ec2::254"]
    async with proxy.gate() as gate:
        told = {answers(await gate.speak(get()))[0][0] for _ in range(4)}
    assert told == {200}
    assert {address for address, _ in origins.connections} == {world.PUBLIC}


async def test_ports(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate(allowing(HOST, ports=(80, 443))) as gate:
        for port in (22, 25, 8080, 53, 6379):
            ((status, said),) = answers(await gate.speak(tunnel(HOST, port)))
            assert (status, f"port {port} is not among" in said.decode()) == (403, True)
        for text in ("0", "65536", "-1", "080", "http", "1e2", "", "\uff18\uff10"):
            ((status, _),) = answers(await gate.speak(f"CONNECT {HOST}:{text} HTTP/1.1\r\n\r\n".encode()))
            assert status in (400, 403), text
    assert origins.connections == []


# CONNECT


async def _through(gate_port: int, after: bytes, host: str = HOST, port: int = 443) -> bytes:
    """What comes back through a tunnel that was granted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate_port)
    writer.write(tunnel(host, port))
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(after)
    if writer.can_write_eof():
        writer.write_eof()
    said = await reader.read()
    writer.close()
    return said


DENIED = bytes((21, 3, 3, 0, 2, 2, 49))
HELLOS = {
    "another host": (hello(OTHER), "names another host"),
    "a host that ends alike": (hello("x" + HOST), "names another host"),
    "no host": (hello(None), "names no host"),
    "an address": (hello("93.184.215.14"), "names no host"),  # which is never sent as a name
    "something encrypted": (with_extension(hello(HOST), 0xFE0D, bytes(40)), "encrypted"),
    "two names": (
        with_extension(hello(HOST), 0, b"\0\x0f\0\0\x0c" + b"evil.example"),
        "not: an extension is there twice",
    ),
    "a name and then some": (hello(HOST) + hello(OTHER), "something follows"),
    "a length past the end": (hello(HOST)[:43] + b"\xff" + hello(HOST)[44:], "length"),
    "SSL 2": (bytes((0x16, 2, 0, 0, 40)) + bytes(40), "not TLS"),
    "another message": (bytes((0x16, 3, 1, 0, 4, 2, 0, 0, 0)), "not a ClientHello"),
    "an empty record": (bytes((0x16, 3, 1, 0, 0)), "length"),
    "an endless hello": (bytes((0x16, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF)) + bytes(0x3FFC), "too long"),
}


@pytest.mark.parametrize("name", HELLOS)
async def test_tls_to_another_host(proxy: RunningProxy, origins: Origins, name: str) -> None:
    message, rule = HELLOS[name]
    async with proxy.gate(allowing(HOST, OTHER)) as gate:
        assert await _through(gate.port, message) == DENIED
    (entry,) = gate.log[0].entries
    assert not entry.allowed
    assert rule in entry.rule
    assert entry.bytes == 0
    assert origins.seen == []


async def test_a_hello_in_many_pieces(proxy: RunningProxy, origins: Origins) -> None:
    """In records of a byte each, and in segments: it is read all the same, for good and for bad."""
    for name, denied in ((HOST, False), (OTHER, True)):
        body = hello(name)[5:]
        records = b"".join(b"\x16\x03\x01\0\1" + bytes((byte,)) for byte in body)
        async with proxy.gate() as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(tunnel())
            await reader.readuntil(b"\r\n\r\n")
            for at in range(0, len(records), 500):
                writer.write(records[at : at + 500])
                await writer.drain()
            assert (await reader.read(7) == DENIED) is denied
            writer.close()


PLAIN = {
    "another host": f"GET /x HTTP/1.1\r\nHost: {OTHER}\r\n\r\n".encode(),
    "another port": f"GET /x HTTP/1.1\r\nHost: {HOST}:8080\r\n\r\n".encode(),
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "a whole URL": f"GET http://{OTHER}/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
    "a tunnel in the tunnel": tunnel(OTHER, 443),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "something else": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_text_to_another_host(proxy: RunningProxy, origins: Origins, name: str) -> None:
    for port in (80, 443):
        async with proxy.gate(allowing(HOST, OTHER)) as gate:
            said = await _through(gate.port, PLAIN[name], port=port)
        assert said[:10] == b"HTTP/1.1 4" or said[:12] == b"HTTP/1.1 505", said
    assert origins.seen == []


async def test_the_second_request_in_a_tunnel(proxy: RunningProxy, origins: Origins) -> None:
    good = f"GET /good HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    async with proxy.gate(allowing(HOST, OTHER)) as gate:
        said = await _through(gate.port, good + PLAIN["another host"] + good, port=80)
    assert [status for status, _ in answers(said)] == [200, 400]
    assert [seen.path for seen in origins.seen] == ["/good"]


async def test_connect_to_one_host_in_the_name_of_another(proxy: RunningProxy, origins: Origins) -> None:
    mixed = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n".encode()
    async with proxy.gate(allowing(HOST, OTHER)) as gate:
        assert answers(await gate.speak(mixed))[0][0] == 400
        assert (
            answers(await gate.speak(tunnel(HOST).replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")))[0][0]
            == 400
        )
    assert origins.connections == []


# Bounds


async def test_bytes_are_bounded(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate(allowing(HOST, max_bytes=1_000_000)) as gate:
        assert len(await gate.speak(get("/size/900000"))) > 900_000
        assert len(await gate.speak(get("/size/900000"))) < 200_000
        ((status, text),) = answers(await gate.speak(get()))
    assert (status, b"network.maxBytes" in text) == (403, True)


async def test_connections_are_bounded(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate(allowing(HOST, max_connections=3)) as gate:
        held = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(3)]
        for _, writer in held:
            writer.write(get("/hang"))
        await asyncio.to_thread(machine.until, lambda: len(origins.seen) == 3, "three")
        fourth = asyncio.create_task(gate.speak(get()))
        done, _ = await asyncio.wait((fourth,), timeout=0.5)
        assert not done
        held[0][1].transport.abort()
        async with proxy.gate() as another:  # which the full one does not concern
            assert answers(await another.speak(get()))[0][0] == 200
        for _, writer in held:
            writer.close()
    assert await fourth == b""


async def test_time_is_bounded(proxy: RunningProxy, origins: Origins) -> None:
    for max_ms in (700, 5_000, 30_000):  # a machine may be too busy for the first
        async with proxy.gate(allowing(HOST, max_ms=max_ms)) as gate:
            with contextlib.suppress(ConnectionRefusedError):
                if await _is_ended_in_time(gate):
                    return
    raise AssertionError("nothing was answered before the time was over")


async def _is_ended_in_time(gate: Gate) -> bool:
    """False when its time was over before."""
    said = answers(await gate.speak(get()))
    if not said:
        return False
    assert said[0][0] == 200
    assert await gate.speak(get("/hang")) == b""  # ended when the time was over
    with pytest.raises(ConnectionRefusedError):
        await gate.speak(get())
    return True


@pytest.mark.slow
async def test_slow_clients(proxy: RunningProxy, origins: Origins) -> None:
    """Heads that come byte by byte, and hellos that never end, hold up nobody else, and are given up."""
    async with proxy.gate() as slow, proxy.gate() as other:
        plain = [await asyncio.open_connection("127.0.0.1", slow.port) for _ in range(50)]
        secure = [await asyncio.open_connection("127.0.0.1", slow.port) for _ in range(10)]
        for reader, writer in secure:
            writer.write(tunnel())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(hello(HOST)[:50])
        ended = asyncio.gather(*(reader.read() for reader, _ in (*plain, *secure)), return_exceptions=True)
        sent = 0
        while not ended.done():
            for _, writer in plain:
                if not writer.is_closing():
                    writer.write(get("/slow")[sent % 20 : sent % 20 + 1])
            sent += 1
            assert answers(await other.speak(get("/quick")))[0][0] == 200
            await asyncio.wait((ended,), timeout=0.5)
            assert sent < 120
        said = await ended
        for _, writer in (*plain, *secure):
            writer.close()
    # One that was just sent another byte is reset, and may lose what the proxy said.
    told = [isinstance(each, bytes) and b" 408 " in each for each in said[:50]]
    assert any(told)
    assert all(done or isinstance(each, ConnectionResetError) for done, each in zip(told, said, strict=False)), said
    assert all(isinstance(each, bytes | ConnectionResetError) for each in said[50:]), said
    assert {seen.path for seen in origins.seen} == {"/quick"}


# The parser

_PIECES = [
    b"GET ", b"POST ", b"CONNECT ", f"http://{HOST}/first".encode(), f"http://{OTHER}/other".encode(), b"/first",
    b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n", f"Host: {HOST}".encode(), f"Host: {OTHER}".encode(),
    b"Content-Length: 5", b"Content-Length: 70", b"Transfer-Encoding: chunked", b"Connection: close", b"0\r\n\r\n",
    b"Upgrade: websocket", b"5\r\n", b"12345", b" ", b"\t", b":", b"\0", SMUGGLED, get("/first"), hello(HOST),
    hello(OTHER), tunnel(), tunnel(HOST, 80),
]  # fmt: skip


def _changed(text: bytes, at: int, new: bytes | None) -> bytes:
    """With something put in, or a byte taken out."""
    at %= len(text)
    return text[:at] + (text[at + 1 :] if new is None else new + text[at:])


def _mixtures() -> st.SearchStrategy[bytes]:
    pieces = st.sampled_from(_PIECES)
    whole = st.sampled_from([*AMBIGUOUS.values(), get("/first"), tunnel() + hello(HOST), tunnel(HOST, 80) + SMUGGLED])
    return st.one_of(
        st.lists(st.one_of(pieces, st.binary(max_size=8)), max_size=20).map(b"".join),
        st.builds(_changed, whole, st.integers(0, 10**6), st.one_of(st.none(), pieces)),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(sent=_mixtures())
def test_whatever_is_said(proxy: RunningProxy, every_origin: Origins, sent: bytes) -> None:
    """Whatever comes of it, no host gets a request that is not meant for it, or that was hidden in another."""
    every_origin.clear()
    every_origin.zone = {HOST: [world.PUBLIC], OTHER: [world.OTHER]}

    async def say() -> Iterable[bytes]:
        async with proxy.gate() as gate:
            return [await asyncio.to_thread(_speak_briefly, gate.port, sent)]

    asyncio.run(say())
    for seen in every_origin.seen:
        assert seen.host == world.PUBLIC
        assert seen.fields["host"].partition(":")[0] == HOST
        assert "smuggled" not in seen.path
        assert "other" not in seen.path
    assert OTHER not in every_origin.asked
    assert proxy.process.poll() is None


def _speak_briefly(port: int, sent: bytes) -> bytes:
    """Say it and end; what comes back within a moment after that is all that there will be."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while data := connection.recv(65536):
                answer += data
        except (ConnectionError, TimeoutError):
            return b""
        return answer


# The proxy's own socket


async def test_other_users_are_turned_away(proxy: RunningProxy) -> None:
    """Its socket has a name that anybody on the machine can look up."""
    code = (
        "import os, socket, sys\n"
        "os.setgid(54321); os.setuid(54321)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1].encode().decode('unicode_escape'))\n"
        "s.settimeout(120); l = socket.create_server(('127.0.0.1', 0))\n"
        "try:\n"
        "    socket.send_fds(s, [b'+'], [l.fileno()])\n"
        "    s.sendall(b'{}\\n')\n"
        "    print(s.recv(100))\n"
        "except OSError as error: print(b'')"
    )
    address = proxy.egress._address.replace("\0", "\\0")
    told = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", code, address], text=True)
    assert told == "b''\n"


def test_its_process_has_no_rights(proxy: RunningProxy) -> None:
    status = machine.status(proxy.process.pid)
    assert status["Uid"].split() == ["1899999998"] * 4
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh")] == [0] * 5
    assert status["NoNewPrivs"] == "1"
    assert status["Groups"] == ""
