"""Fetching a program from where `codeUrl` points, without becoming anyone's way into the server's own network.

The name is resolved once, every address it has must be public, and the connection goes to one of those very addresses:
a name cannot lead somewhere else in between. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - resolving names loads it, when the process may have no right to read it any more
import hashlib
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from isol8.errors import Forbidden, InvalidRequest
from isol8.sizes import format_size

_TIMEOUT_S = 15.0
_CHUNK_BYTES = 64 * 1024
_TLS = ssl.create_default_context()
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: _Address) -> bool:
    """Whether an address is one of the Internet, and not of the machine or its surroundings."""
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or is_public(inner))


class Fetcher:
    """Fetches programs of at most `max_bytes`. `allowed` decides which addresses may be asked."""

    def __init__(self, max_bytes: int, allowed: Callable[[_Address], bool] = is_public) -> None:
        self._max_bytes = max_bytes
        self._allowed = allowed

    async def fetch(self, url: str, sha256: str | None, *, insecure: bool) -> bytes:
        """What is at `url`, which may be http only if `insecure`; it must have the given digest, if one is given.

        Raises InvalidRequest, and Forbidden for an address that must not be asked.
        """
        parts = _split(url, insecure)
        try:
            content = await asyncio.to_thread(self._get, parts)
        except (OSError, http.client.HTTPException) as error:
            raise InvalidRequest("request.codeUrl could not be fetched") from error
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256.lower():
            raise InvalidRequest("request.codeUrl gave something else than request.codeHash says")
        if not content:
            raise InvalidRequest("request.codeUrl gave an empty program")
        return content

    def _get(self, parts: SplitResult) -> bytes:
        """In a thread of its own: http.client blocks."""
        deadline = time.monotonic() + _TIMEOUT_S
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        stream: socket.socket = socket.create_connection((self._resolve(host, port), port), _TIMEOUT_S)
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            if parts.scheme == "https":
                stream = _TLS.wrap_socket(stream, server_hostname=host)
            connection.sock = stream
            connection.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
            return self._read(connection.getresponse(), deadline)
        finally:
            connection.close()
            stream.close()

    def _resolve(self, host: str, port: int) -> str:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        if not all(self._allowed(ipaddress.ip_address(address)) for address in found):
            raise Forbidden("request.codeUrl leads to an address that is not public")
        return sorted(found)[0]

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        if response.status != 200:
            raise InvalidRequest(f"request.codeUrl was answered with status {response.status}")
        content = bytearray()
        while piece := response.read1(_CHUNK_BYTES):
            content += piece
            if len(content) > self._max_bytes:
                raise Forbidden(f"request.codeUrl gave more than {format_size(self._max_bytes)} (policy.maxCodeSize)")
            if time.monotonic() > deadline:
                raise InvalidRequest(f"request.codeUrl took longer than {_TIMEOUT_S:g} s")
        return bytes(content)


def _split(url: str, insecure: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        raise InvalidRequest("request.codeUrl must be an https URL") from None
    if parts.scheme == "http" and not insecure:
        raise InvalidRequest("request.codeUrl is http, which only request.allowInsecureCodeUrl allows")
    if not usable or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest("request.codeUrl must be an https URL")
    return parts
