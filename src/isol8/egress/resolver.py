"""From a host to a connection: resolve, judge every address, connect to one that was judged.

The name is resolved once for each connection, and the connection goes to the very address that was looked at: a name
that leads elsewhere a moment later leads nowhere.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - resolving names loads it, when this process may have no right to read it any more
import errno
import ipaddress
import os
import socket
from concurrent.futures import ThreadPoolExecutor

from isol8.egress.hosts import Address, as_address

_LOOKUPS = 128  # at once, in all; one sandbox has a share of them
_LOOKUP_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
_MAX_ADDRESSES = 8


class Unreachable(Exception):
    """The host is allowed, but no connection came about. The message is a sentence about it."""


class Resolver:
    """The machine's own resolver (resolv.conf, hosts, nsswitch), and connections."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, "lookup")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of a host, itself if it is one. Raises Unreachable."""
        literal = as_address(host)
        if literal:
            return [literal]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                found = await loop.run_in_executor(self._threads, _look_up, host, port)
        except TimeoutError:
            raise Unreachable("the name could not be resolved in time") from None
        except (OSError, UnicodeError):
            raise Unreachable("the name could not be resolved") from None
        return found

    async def connect(self, addresses: list[Address], port: int) -> socket.socket:
        """A connection to the first address that takes one. Raises Unreachable."""
        reason = "the host does not answer"
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                return await _connect(address, port)
            except TimeoutError:
                reason = "the host does not answer in time"
            except OSError as error:
                reason = f"no connection to the host: {os.strerror(error.errno or errno.EIO)}"
        raise Unreachable(reason)


def _look_up(host: str, port: int) -> list[Address]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    # A scope (`fe80::1%eth0`) would make an address mean something else than what is judged.
    found = [ipaddress.ip_address(str(entry[4][0])) for entry in entries if "%" not in str(entry[4][0])]
    return list(dict.fromkeys(found))


async def _connect(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection


def is_own(address: Address) -> bool:
    """Whether the address is one of this machine's, public or not: what listens there may count on a firewall between
    it and the world. The kernel tells by the source it would use; nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return ipaddress.ip_address(probe.getsockname()[0]) == address
