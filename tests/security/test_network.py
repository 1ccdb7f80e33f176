"""A sandbox without a network: nothing leaves it, in no protocol, to nowhere, not even to the machine it runs on."""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.security import containment
from tests.support.calls import execute, stdout
from tests.support.server import Server

# Documentation addresses, link-local metadata services of the clouds, and the machine's own.
TARGETS = ("192.0.2.1", "169.254.169.254", "100.100.100.200", "10.0.0.1", "172.17.0.1", "8.8.8.8", "255.255.255.255")
SIX = ("2001:db8::1", "fd00:ec2::254", "fe80::1", "ff02::1", "::ffff:127.0.0.1")
PROBE = """
import json, socket
told = {{}}
for family, addresses in ((socket.AF_INET, {four!r}), (socket.AF_INET6, {six!r})):
    for address in addresses:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                probe.settimeout(5)
                try:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    probe.connect((address, {port})); probe.send(b'{mark}'); told[f'{{address}} {{kind}}'] = 'sent'
                except OSError as error: told[f'{{address}} {{kind}}'] = error.errno
print(json.dumps(told))
"""
UNREACHABLE = {101, 22}  # ENETUNREACH; EINVAL for an address that needs an interface
LOOPBACK = {111, "sent"}  # its own, where nobody listens


@dataclass(frozen=True)
class Ears:
    """Sockets of the machine that hear whatever comes to `port`, on any address, and to two unix addresses."""

    port: int
    sockets: tuple[socket.socket, ...]
    abstract: str
    path: str

    def heard(self) -> list[str]:
        """Which of them somebody has spoken to."""
        found = []
        for ear in self.sockets:
            with contextlib.suppress(BlockingIOError):
                if ear.type == socket.SOCK_STREAM:
                    ear.accept()[0].close()
                else:
                    ear.recv(100)
                found.append(str(ear))
        return found


@pytest.fixture
def ears(tmp_path: Path) -> Iterator[Ears]:
    abstract, path = f"isol8-ear-{uuid.uuid4().hex}", str(tmp_path / "ear")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = stream.getsockname()[1]
        datagrams = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", port))
        local = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for listener, address in zip(local, (f"\0{abstract}", path), strict=True):
            listener.bind(address)
            listener.listen()
        Path(path).chmod(0o777)
        found = (stream, datagrams, *local)
        for ear in found:
            ear.setblocking(False)
        # They do hear: what is not heard below has not come.
        socket.create_connection(("127.0.0.1", port)).close()
        sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.sendto(b"x", ("127.0.0.1", port))
        made = Ears(port, found, abstract, path)
        assert len(made.heard()) == 2
        yield made


def _own_addresses() -> list[str]:
    """An address of this machine's, if it has one besides loopback's. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


def test_no_host_loopback(client: httpx.Client) -> None:
    containment.no_host_loopback(client)


def test_nothing_leaves(client: httpx.Client, ears: Ears) -> None:
    four = (*TARGETS, "127.0.0.1", *_own_addresses())
    told = json.loads(stdout(client, PROBE.format(four=four, six=SIX, port=ears.port, mark="out")))
    assert len(told) == 2 * (len(four) + len(SIX))
    own = {name for name in told if "127.0.0.1" in name}
    assert len(own) == 4
    assert {told[name] for name in own} <= LOOPBACK, told
    assert {told[name] for name in told.keys() - own} <= UNREACHABLE, told
    assert {told[f"{address} {kind}"] for address in TARGETS for kind in (1, 2)} == {101}
    assert ears.heard() == []


def test_only_loopback_and_it_is_ones_own(client: httpx.Client, server: Server) -> None:
    code = (
        "import json, socket\n"
        "print(json.dumps([[name for _, name in socket.if_nameindex()],"
        " open('/proc/net/dev').read(), open('/proc/net/route').read(), open('/proc/net/arp').read(),"
        " open('/proc/net/tcp').read(), open('/proc/net/unix').read()]))"
    )
    names, devices, routes, neighbours, streams, local = json.loads(stdout(client, code))
    assert names == ["lo"]
    assert devices.count(":") == 1
    assert [len(table.splitlines()) for table in (routes, neighbours, streams, local)] == [1, 1, 1, 1]


@pytest.mark.parametrize("language", ["python", "node", "bash", "bun", "deno"])
def test_names_are_not_resolved(client: httpx.Client, require: Any, language: str) -> None:
    require(language)
    code = {
        "python": "import socket\ntry: print(socket.getaddrinfo('example.com', 80))\nexcept OSError: print('no')",
        "node": "require('dns').lookup('example.com', (e, a) => console.log(e ? 'no' : a))",
        "bun": "const r = await fetch('http://example.com').then(() => 'yes', () => 'no'); console.log(r)",
        "deno": "const r = await fetch('http://example.com').then(() => 'yes', () => 'no'); console.log(r)",
        "bash": "getent hosts example.com || echo no",
    }[language]
    assert execute(client, code, language)["stdout"] == "no\n"


def test_shells_and_tools(client: httpx.Client, ears: Ears) -> None:
    code = (
        f"for host in 127.0.0.1 192.0.2.1 169.254.169.254 ::1; do for kind in tcp udp; do\n"
        f"  (echo out >/dev/$kind/$host/{ears.port}) 2>/dev/null && [ $kind = tcp ] && echo $kind $host; done; done\n"
        f"command -v curl >/dev/null && curl -sm 5 http://169.254.169.254/ && echo curl\n"
        "command -v ping >/dev/null && ping -c1 -W2 192.0.2.1 >/dev/null 2>&1 && echo ping; exit 0"
    )
    assert execute(client, code, "bash")["stdout"] == ""
    assert ears.heard() == []


def test_unix_sockets_of_the_machine(client: httpx.Client, ears: Ears, server: Server) -> None:
    names = [f"\0{ears.abstract}", ears.path, f"\0isol8-supervisor-{server.pid}-1", "\0isol8-user-ids-0"]
    names += [
        "/run/docker.sock",
        "/run/dbus/system_bus_socket",
        "/dev/log",
        "/run/systemd/private",
        "\0/tmp/.X11-unix/X0",
    ]
    code = (
        "import socket\n"
        f"for name in {names!r}:\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):\n"
        "        with socket.socket(socket.AF_UNIX, kind) as probe:\n"
        "            try: probe.connect(name); print('connected', ascii(name))\n"
        "            except (ConnectionRefusedError, FileNotFoundError): pass"
    )
    assert f"@isol8-supervisor-{server.pid}-1" in Path("/proc/net/unix").read_text()
    assert stdout(client, code) == ""
    assert ears.heard() == []


def test_the_network_cannot_be_changed(client: httpx.Client) -> None:
    """Neither by netlink nor by ioctl: the namespace belongs to nobody inside it."""
    code = (
        "import fcntl, os, socket, struct\n"
        "route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
        "link = struct.pack('=BxHiII', 0, 0, 0, 0, 0) + struct.pack('=HH8s', 12, 3, b'dummy0\\0\\0')\n"
        "address = struct.pack('=BBBBI', 2, 8, 0, 0, 1)\n"
        "way = struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 3, 0, 1, 0)\n"
        "for kind, body in ((16, link), (20, address), (24, way)):\n"
        "    route.send(struct.pack('=IHHII', 16 + len(body), kind, 0x605, 1, 0) + body)\n"
        "    print(struct.unpack('=i', route.recv(4096)[16:20])[0])\n"
        "probe = socket.socket(2, 2)\n"
        "for request in (0x8914, 0x8916, 0x8924, 0x89A0):\n"
        "    try: fcntl.ioctl(probe, request, b'lo'.ljust(40, b'\\0')); print('done')\n"
        "    except OSError as error: print(-error.errno)"
    )
    assert set(stdout(client, code).split()) == {"-1"}


def test_protocols_that_bring_in_kernel_modules(client: httpx.Client) -> None:
    """SCTP, DCCP, L2TP, UDP-Lite and the like are no use without a network, and their code is the kernel's least tried.
    The answer is the filter's on every machine, whether it has them or not; raw sockets are the kernel's to refuse."""
    code = (
        "import socket\n"
        "kinds = ((3, 1), (5, 132), (1, 132), (5, 0), (6, 33), (6, 0), (2, 115), (2, 136), (1, 262))\n"
        "for family in (2, 10):\n"
        "    for kind, protocol in kinds:\n"
        "        try: socket.socket(family, kind, protocol).close(); print('made')\n"
        "        except OSError as error: print(error.errno)"
    )
    assert stdout(client, code).split() == ["1", *["93"] * 8] * 2
