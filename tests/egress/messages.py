"""Requests to the proxy as bytes, and what its answers mean."""

from __future__ import annotations

import ssl

import h11

HOST = "allowed.example.com"
OTHER = "other.example.com"


def get(path: str = "/echo", host: str = HOST, *fields: str) -> bytes:
    lines = [f"GET http://{host}{path} HTTP/1.1", f"Host: {host}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def tunnel(host: str = HOST, port: int = 443) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def answers(data: bytes, *methods: str) -> list[tuple[int, bytes]]:
    """The answers in what came, to requests with these methods; GET if none are given."""
    found, rest = [], data
    for method in methods or ("GET",) * 100:
        if not rest:
            break
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(rest)
        parser.receive_data(b"")
        status, body = 0, b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        found.append((status, body))
        rest = parser.trailing_data[0]
    return found


def hello(name: str | None) -> bytes:
    """The first message of a TLS connection to `name`, as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs two")


def with_extension(message: bytes, kind: int, content: bytes) -> bytes:
    """A hello with one more extension: all the lengths around it grow."""
    extra = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    body = bytearray(message[9:])
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    body[at : at + 2] = (int.from_bytes(body[at : at + 2], "big") + len(extra)).to_bytes(2, "big")
    body += extra
    record = message[5:6] + len(body).to_bytes(3, "big") + body
    return message[:3] + len(record).to_bytes(2, "big") + record
