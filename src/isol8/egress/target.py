"""For which host a request is: said in one place, or in two that agree."""

from __future__ import annotations

from dataclasses import dataclass

import h11

from isol8.egress.hello import Hello
from isol8.egress.hosts import InvalidHost, as_address, parse_authority, parse_host
from isol8.egress.http1 import BadRequest

_MAX_HOST = 253


@dataclass(frozen=True, slots=True)
class Origin:
    """The host that a conversation inside CONNECT is with; `secure`: its TLS ends in the proxy."""

    host: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` is None for CONNECT. `flaw`: why the host, as it was written, is none."""

    host: str
    port: int
    path: str | None
    flaw: str = ""

    def origin(self, *, secure: bool) -> str:
        """As EgressPolicy.downloads has it."""
        return f"{'https' if secure else 'http'}://{self.authority(0)}"

    def authority(self, default_port: int) -> str:
        """As the Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default_port else f"{host}:{self.port}"


def read_target(request: h11.Request, origin: Origin | None) -> Target:
    """Where a request goes that came over the connection to the proxy, or inside CONNECT. Raises BadRequest."""
    text = request.target.decode("ascii")
    if request.method == b"CONNECT":
        if origin or has_body(request):
            raise BadRequest("CONNECT has no place here")
        target = _target(text, None, None)
    elif origin:
        if not text.startswith("/") and not (request.method == b"OPTIONS" and text == "*"):
            raise BadRequest("The request must name a path")
        target = Target(origin.host, origin.port, text)
    else:
        target = _absolute(text, request.method)
    _check_host(request, target, 443 if origin and origin.secure else 80)
    return target


def _absolute(text: str, method: bytes) -> Target:
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise BadRequest("This is a proxy: the request must name a whole URL")
    if scheme.lower() != "http":
        raise BadRequest("Only http URLs go this way; https goes by CONNECT")
    if "#" in rest:
        raise BadRequest("The URL has a fragment")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not path.startswith("/"):
        path = "*" if method == b"OPTIONS" and not path else f"/{path}"
    return _target(authority, 80, path)


def _target(authority: str, default_port: int | None, path: str | None) -> Target:
    try:
        host, port = parse_authority(authority, default_port)
    except InvalidHost as error:
        return Target(authority[:_MAX_HOST], 0, path, f"the host {error}")
    return Target(host, port, path)


def _check_host(request: h11.Request, target: Target, default_port: int) -> None:
    named = next((value for name, value in request.headers if name == b"host"), None)
    if named is None or target.flaw:
        return
    try:
        # To CONNECT, some clients say the host without its port.
        host, port = parse_authority(named.decode("ascii"), target.port if target.path is None else default_port)
    except (InvalidHost, UnicodeDecodeError):
        raise BadRequest("The Host field does not name a host") from None
    if (host, port) != (target.host, target.port):
        raise BadRequest("The Host field names another host than the request")


def has_body(request: h11.Request) -> bool:
    """Whether something follows the request's head."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        for name, value in request.headers
    )


def objection_to(hello: Hello, host: str) -> str | None:
    """Why TLS to `host` must not begin like this; None if it may."""
    if hello.hidden:
        return "an encrypted ClientHello hides the host"
    if hello.name is None:
        return None if as_address(host) else "TLS names no host (SNI)"
    try:
        named = parse_host(hello.name)
    except InvalidHost:
        named = ""
    return None if named == host else "TLS names another host (SNI) than CONNECT"
