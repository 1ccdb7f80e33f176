"""What goes through the proxy, as it should."""

from __future__ import annotations

import asyncio
import socket
import ssl

from isol8.model import HostRule
from tests.egress import world
from tests.egress.conftest import RunningProxy, Surroundings, allowing
from tests.egress.messages import HOST, OTHER, answers, get, tunnel
from tests.egress.origins import Origins
from tests.support import machine


async def test_plain_http(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate() as gate:
        ((status, body),) = answers(await gate.speak(get("/echo?query=1", HOST, "X-Own: 1", "Connection: close")))
    assert status == 200
    assert body == b"GET /echo?query=1 HTTP/1.1\r\nHost: allowed.example.com\r\nX-Own: 1\r\n\r\n"
    (entry,) = gate.log[0].entries
    assert (entry.method, entry.host, entry.port, entry.path, entry.allowed) == ("GET", HOST, 80, "/echo", True)
    assert entry.bytes > len(body)
    assert gate.log[0].complete


async def test_keep_alive(proxy: RunningProxy, origins: Origins) -> None:
    """Requests one after the other, also sent at once, over one connection on either side."""
    async with proxy.gate() as gate:
        said = await gate.speak(get("/echo/1") + get("/echo/2") + get("/echo/3"))
    assert [status for status, _ in answers(said)] == [200] * 3
    assert [seen.path for seen in origins.seen] == ["/echo/1", "/echo/2", "/echo/3"]
    assert origins.connections == [(world.PUBLIC, 80)]
    assert len(gate.log[0].entries) == 3


async def test_a_host_that_closes_between_requests(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate() as gate:
        said = await gate.speak(get("/open") + get("/echo/2"))
    assert [status for status, _ in answers(said)] == [200] * 2
    assert len(origins.connections) == 2


async def test_two_hosts_over_one_connection(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate(allowing(HOST, OTHER)) as gate:
        said = await gate.speak(get("/echo") + get("/echo", OTHER) + get("/echo"))
    assert [status for status, _ in answers(said)] == [200] * 3
    assert [seen.host for seen in origins.seen] == [world.PUBLIC, world.OTHER, world.PUBLIC]


async def test_bodies(proxy: RunningProxy, origins: Origins) -> None:
    content = bytes(range(256)) * 4096
    head = f"POST http://{HOST}/echo HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    sized = head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(content) + content
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked += (
        b"".join(b"%x\r\n%b\r\n" % (1000, content[at : at + 1000]) for at in range(0, 100_000, 1000)) + b"0\r\n\r\n"
    )
    async with proxy.gate() as gate:
        said = await gate.speak(sized, chunked)
    assert said.startswith(b"HTTP/1.1 100 ")
    assert [body for seen in origins.seen for body in [seen.raw.partition(b"\r\n\r\n")[2]]] == [
        content,
        content[:100_000],
    ]
    assert [status for status, _ in answers(said, "POST", "POST")] == [200, 200]


async def test_an_early_answer(proxy: RunningProxy, origins: Origins) -> None:
    """HEAD, no content, and content that ends with the connection."""
    async with proxy.gate() as gate:
        head = await gate.speak(get().replace(b"GET", b"HEAD") + get())
        open_ended = await gate.speak(get("/open"))
        old = await gate.speak(f"GET http://{HOST}/echo HTTP/1.0\r\n\r\n".encode())
    assert [(status, bool(body)) for status, body in answers(head, "HEAD", "GET")] == [(200, False), (200, True)]
    assert answers(open_ended)[0][1].startswith(b"GET /open")
    assert b"transfer-encoding" not in old.lower()
    assert old.partition(b"\r\n\r\n")[2].startswith(b"GET /echo HTTP/1.1\r\nHost: allowed.example.com\r\n")


async def test_what_is_between_two_stays_between_them(proxy: RunningProxy, origins: Origins) -> None:
    fields = (
        "Proxy-Authorization: Basic x",
        "Connection: X-Mine, keep-alive",
        "X-Mine: 1",
        "Keep-Alive: 1",
        "TE: gzip",
    )
    async with proxy.gate() as gate:
        await gate.speak(get("/echo", HOST, *fields, "Upgrade: h2c", "HTTP2-Settings: AAAA", "X-Theirs: 1"))
    assert set(origins.seen[0].fields) == {"host", "x-theirs"}


async def test_tls_is_left_alone(proxy: RunningProxy, origins: Origins, surroundings: Surroundings) -> None:
    context = ssl.create_default_context(cafile=str(surroundings.bundle))
    async with proxy.gate() as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(tunnel())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await writer.start_tls(context, server_hostname=HOST)
        certificate = writer.get_extra_info("peercert")
        writer.write(f"GET /secret-path HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert ("commonName", "isol8 egress proxy") in certificate["issuer"][
        0
    ]  # the origin's authority is of that kind too
    assert certificate["serialNumber"] in _serials(origins)
    assert origins.seen[0].name == HOST
    (entry,) = gate.log[0].entries
    assert (entry.method, entry.host, entry.port, entry.path) == ("CONNECT", HOST, 443, None)
    assert entry.bytes > 500


def _serials(origins: Origins) -> list[str]:
    pem = origins.authority.context(HOST)
    made = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(cadata=origins.authority.bundle.decode())
    client = client_context.wrap_bio(made[0], made[1], server_hostname=HOST)
    server = pem.wrap_bio(made[1], made[0], server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert()
    assert certificate is not None
    return [str(certificate["serialNumber"])]


async def test_websocket_through_connect(proxy: RunningProxy, origins: Origins) -> None:
    upgrade = f"GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    async with proxy.gate() as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(tunnel(HOST, 80))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(upgrade)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: websocket" in head.lower()
        for word in (b"one", b"two"):
            writer.write(word)
            assert await reader.readexactly(5) == b"<" + word + b">"
        writer.close()
    assert [entry.method for entry in gate.log[0].entries] == ["GET", "CONNECT"]


async def test_ipv6(proxy: RunningProxy, origins: Origins) -> None:
    origins.zone[HOST] = [world.PUBLIC_6]
    literal = f"[{world.PUBLIC_6}]"
    async with proxy.gate(allowing(HOST, world.PUBLIC_6)) as gate:
        said = await gate.speak(get() + get("/echo", literal))
    assert [status for status, _ in answers(said)] == [200, 200]
    assert [seen.host for seen in origins.seen] == [world.PUBLIC_6] * 2
    assert origins.seen[1].fields["host"] == literal


async def test_the_next_address_is_tried(proxy: RunningProxy, origins: Origins) -> None:
    origins.zone[HOST] = ["93.184.215.99", world.PUBLIC]  # nobody has the first
    async with proxy.gate() as gate:
        assert answers(await gate.speak(get()))[0][0] == 200


async def test_hosts_that_cannot_be_reached(proxy: RunningProxy, origins: Origins) -> None:
    policy = allowing(HOST, "unknown.example.com", ports=(80, 443, 81))
    async with proxy.gate(policy) as gate:
        unknown = answers(await gate.speak(get("/", "unknown.example.com")))
        deaf = answers(await gate.speak(get("/", f"{HOST}:81")))
        broken = answers(await gate.speak(get("/nonsense")))
    assert unknown == [(502, b"isol8: unknown.example.com: the name could not be resolved\n")]
    assert deaf == [(502, b"isol8: allowed.example.com: no connection to the host: Connection refused\n")]
    assert broken[0][0] == 502
    assert b"malformed" in broken[0][1]


async def test_much_traffic(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate() as gate:
        said = await asyncio.gather(*(gate.speak(get(f"/size/{5_000_000}")) for _ in range(4)))
    assert [len(answers(each)[0][1]) for each in said] == [5_000_000] * 4


async def test_gates_do_not_share(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate() as one, proxy.gate(allowing(OTHER)) as other:
        assert answers(await one.speak(get()))[0][0] == 200
        assert answers(await other.speak(get()))[0][0] == 403
        assert answers(await other.speak(get("/", OTHER)))[0][0] == 200
    assert [entry.host for entry in one.log[0].entries] == [HOST]
    assert [entry.host for entry in other.log[0].entries] == [HOST, OTHER]


async def test_nothing_is_left_of_a_gate(proxy: RunningProxy, origins: Origins) -> None:
    """Neither a listener nor a connection, on either side, however busy it was."""
    async with proxy.gate() as gate:
        connections = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(5)]
        for _, writer in connections:
            writer.write(get("/hang"))
        await asyncio.to_thread(machine.until, lambda: len(origins.seen) == 5, "five")
    for reader, writer in connections:
        assert await reader.read() == b""
        writer.close()
    assert len(gate.log[0].entries) == 5
    try:
        socket.create_connection(("127.0.0.1", gate.port)).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("the gate still listens")


async def test_without_a_log(proxy: RunningProxy, origins: Origins) -> None:
    async with proxy.gate(allowing(HOST, log=False)) as gate:
        assert answers(await gate.speak(get()))[0][0] == 200
    assert gate.log[0].entries == ()


async def test_rules(proxy: RunningProxy, origins: Origins) -> None:
    """The blacklist comes first, whole names must match, in whatever case, and every whitelist has its say."""
    policy = allowing(
        allow=((HostRule("server[0]", r".*\.example\.com"),), (HostRule("mine[0]", r"ALLOWED\..*|other\..*"),)),
        deny=(HostRule("blacklist[0]", r"other\.example\.com"),),
    )
    async with proxy.gate(policy) as gate:
        told = {
            name: answers(await gate.speak(get("/", name)))[0]
            for name in (
                HOST,
                "Allowed.Example.COM.",
                OTHER,
                "third.example.com",
                "allowed.example.com.evil.org",
                "xother",
            )
        }
    assert [status for status, _ in told.values()] == [200, 200, 403, 403, 403, 403]
    assert b"the host matches blacklist[0] other\\.example\\.com" in told[OTHER][1]
    assert b"the host matches nothing in mine" in told["third.example.com"][1]
    assert b"the host matches nothing in server" in told["allowed.example.com.evil.org"][1]
    assert set(origins.asked) == {HOST}  # what is not allowed is not even asked for
