"""The first message of a TLS connection: which host does the client want?

TLS 1.3 (RFC 8446, 4.1.2 and 5.1), server_name (RFC 6066, 3). Only what is needed is read, and everything that is read
is checked: lengths must add up exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_HELLO_BYTES = 32 * 1024
HANDSHAKE = 22  # the content type that a TLS connection begins with
_MAX_RECORD_BYTES = 16 * 1024
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ENCRYPTED_HELLO = 0xFE0D  # draft-ietf-tls-esni: the true name is inside, for the server alone to read


class InvalidHello(ValueError):
    """Not a ClientHello."""


@dataclass(frozen=True, slots=True)
class Hello:
    """`name` is the server's, in lower case; None if there is none. `hidden`: another may be there, encrypted."""

    name: str | None
    hidden: bool


class _Cursor:
    """Reads a structure of the TLS presentation language."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Exactly that many bytes."""
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise InvalidHello("a length is wrong")
        self._at += size
        return taken

    def number(self, size: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    def vector(self, length_size: int) -> _Cursor:
        """A structure that is preceded by its length."""
        return _Cursor(self.take(self.number(length_size)))


def parse_hello(data: bytes) -> Hello | None:
    """The hello that a connection begins with; None when more is needed to tell. Raises InvalidHello."""
    message = _reassemble(data)
    if message is None:
        if len(data) >= MAX_HELLO_BYTES:
            raise InvalidHello("too long")
        return None
    return _parse(_Cursor(message))


def _reassemble(data: bytes) -> bytes | None:
    """The handshake message's body, from as many records as it is spread over."""
    message, at = b"", 0
    while True:
        if message and message[0] != _CLIENT_HELLO:
            raise InvalidHello("not a ClientHello")
        whole = 4 + int.from_bytes(message[1:4], "big") if len(message) >= 4 else 4
        if whole > MAX_HELLO_BYTES:
            raise InvalidHello("too long")
        if len(message) >= 4 and len(message) >= whole:
            break
        record = _record(data, at)
        if record is None:
            return None
        message += record
        at += 5 + len(record)
    if len(message) > whole or at < len(data):
        raise InvalidHello("something follows it")
    return message[4:]


def _record(data: bytes, at: int) -> bytes | None:
    """The content of the record that begins at `at`; None if not all of it is there."""
    header = data[at : at + 5]
    if header and header[0] != HANDSHAKE:
        raise InvalidHello("not a handshake")
    if len(header) > 1 and header[1] != 3:
        raise InvalidHello("not TLS")
    if len(header) < 5:
        return None
    size = int.from_bytes(header[3:5], "big")
    if not 0 < size <= _MAX_RECORD_BYTES:
        raise InvalidHello("a record's length is wrong")
    content = data[at + 5 : at + 5 + size]
    return content if len(content) == size else None


def _parse(body: _Cursor) -> Hello:
    body.take(2 + 32)  # legacy_version, random
    body.vector(1)  # legacy_session_id
    body.vector(2)  # cipher_suites
    body.vector(1)  # legacy_compression_methods
    name, seen = None, set()
    extensions = body.vector(2) if body else _Cursor(b"")
    if body:
        raise InvalidHello("something follows the extensions")
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in seen:
            raise InvalidHello("an extension is there twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
    return Hello(name, _ENCRYPTED_HELLO in seen)


def _server_name(content: _Cursor) -> str:
    names = content.vector(2)
    if content or names.number(1) != 0:
        raise InvalidHello("not one host name")
    name = names.vector(2).rest()
    if names:
        raise InvalidHello("not one host name")
    try:
        return name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise InvalidHello("not a host name") from None
