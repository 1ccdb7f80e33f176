"""What a build may reach: the hosts of the configured indexes, at their ports, and no others."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from urllib.parse import urlsplit

from isol8.errors import EngineFailure
from isol8.model import EgressPolicy, HostRule
from isol8.packages.recipe import Order

_PORTS = {"http": 80, "https": 443}
_RESOLVE_TIMEOUT_S = 20
# At once: an installer keeps connections open to every host that it has downloaded from.
_MAX_CONNECTIONS = 128


async def egress_for(order: Order, max_bytes: int, max_ms: int) -> EgressPolicy:
    """The policy for a build. The administrator has named the indexes, so they may be anywhere, this machine's own
    network included: the addresses that their names have now are allowed, public or not. Raises EngineFailure when the
    names cannot be resolved."""
    origins = {("https", host, 443) for host in order.hosts}
    for address in order.addresses:
        parts = urlsplit(address)
        if parts.scheme in _PORTS and parts.hostname:
            origins.add((parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]))
    places = {(host, port) for _, host, port in origins}
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            ranges = [await _addresses(host, port) for host, port in sorted(places)]
    except TimeoutError as error:
        raise EngineFailure("the package index's name cannot be resolved") from error
    return EgressPolicy(
        allow=(tuple(HostRule("packages.hosts", re.escape(host)) for host, _ in sorted(places)),),
        ports=tuple(sorted({port for _, port in places})),
        ranges=tuple(sorted({text for found in ranges for text in found})),
        max_bytes=max_bytes,
        max_ms=max_ms,
        log=True,
        max_connections=_MAX_CONNECTIONS,
        downloads=tuple(sorted(_text(*origin) for origin in origins if _can_be_kept(order, *origin))),
        certificates=order.certificates,
    )


def _can_be_kept(order: Order, scheme: str, host: str, port: int) -> bool:
    """Whether the proxy may fetch files from there in the installer's place: over TLS, it must be able to check whom it
    speaks with, as the installer would."""
    unchecked = {host, f"{host}:{port}"} & set(order.unchecked)
    return scheme == "http" or (bool(order.certificates) and not unchecked)


def _text(scheme: str, host: str, port: int) -> str:
    """As EgressPolicy.downloads has it."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _addresses(host: str, port: int) -> list[str]:
    """Those of a host, as ranges of one address. A name that has none is the proxy's to complain about."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(ipaddress.ip_network(str(entry[4][0]).partition("%")[0])) for entry in found]
