"""Host names and addresses as they come in requests: one spelling for each, and nothing with two readings."""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What a resolver takes for an IPv4 address in one of its old notations (decimal, octal, hexadecimal, fewer parts) ends
# like this; no name on the Internet does (the URL standard's "ends in a number checker").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class InvalidHost(ValueError):
    """Not a host, or not in the one spelling that is taken. The message completes "The host …"."""


def parse_host(text: str) -> str:
    """The canonical spelling: a name in lower case without a final dot, or an address (IPv6 without brackets).

    Raises InvalidHost.
    """
    host = text.lower()
    if host.startswith("[") and host.endswith("]"):
        return _address(host[1:-1], ipaddress.IPv6Address)
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address(host, ipaddress.IPv4Address)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidHost("is not a host name")
    return host


def _address(text: str, kind: type[Address]) -> str:
    try:
        if "%" in text:
            raise ValueError
        return str(kind(text))
    except ValueError:
        raise InvalidHost("is not an address in its usual notation") from None


def parse_authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port`; the port may be absent if there is a default. Raises InvalidHost."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
        if default_port is None:
            raise InvalidHost("has no port")
        return parse_host(host), default_port
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise InvalidHost("has no valid port")
    return parse_host(host), int(port)


def as_address(host: str) -> Address | None:
    """The address that a canonical host is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
