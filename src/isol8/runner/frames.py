"""The framed protocol between the server and the runner in a sandbox, over one duplex byte stream.

    frame   = kind (1 byte) channel (4 bytes) length (4 bytes) payload
    fields  = (key length (1) key value length (4) value)*       -- payload of requests

Integers are big-endian. A channel is a number the server picks for one exchange: one program, or one file.

    server → runner                                      runner → server
    START  fields: see process.py                        READY   the sandbox waits for its first request
    STDIN  bytes; empty: end of file                     STDOUT, STDERR  bytes
    KILL   every process of the sandbox                  EXIT    4 bytes: exit code
                                                         STATUS  4 bytes, little-endian: as wait(2) has it; for EXIT
    PUT    fields: path; then DATA*, END                 DONE    the file is in place
    GET    fields: path, max                             DATA*, END  the file's bytes
    LISTEN fields: port; see relay.py                    DONE    connections are taken
    DATA   bytes                                         FAILED  error name, NUL, message
    END
    PREPARE  fork a worker for the next program, if none waits
    TAKE_OVER  nothing: whoever spoke for a runner becomes one
    RESUME  token, number: see resumption.py             RESUMED  the number

The server trusts nothing in what it receives: `Decoder` bounds every length, and what a payload says is
checked where it is used. Standard library only: this file is loaded inside sandboxes too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

START, STDIN, KILL, PUT, GET, DATA, END, PREPARE, LISTEN, RESUME, TAKE_OVER = range(1, 12)
READY, STDOUT, STDERR, EXIT, DONE, FAILED, RESUMED, STATUS = range(16, 24)

HEADER_BYTES = 9
# The pieces in which either side sends long contents.
CHUNK_BYTES = 256 * 1024


class ProtocolError(Exception):
    """The other side sent what no correct peer sends."""


def encode(kind: int, channel: int, payload: bytes | bytearray = b"") -> bytes:
    """One frame."""
    return bytes((kind,)) + channel.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


def encode_content(channel: int, content: bytes | bytearray) -> Iterator[bytes]:
    """DATA frames for all of `content`, then END; each is made when it is asked for."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield encode(DATA, channel, content[start : start + CHUNK_BYTES])
    yield encode(END, channel)


def encode_fields(kind: int, channel: int, pairs: Iterable[tuple[str, bytes | bytearray]]) -> bytes:
    """One frame of fields; values are copied once."""
    parts = _field_parts(pairs)
    length = sum(map(len, parts))
    return b"".join((bytes((kind,)), channel.to_bytes(4, "big"), length.to_bytes(4, "big"), *parts))


def pack_fields(pairs: Iterable[tuple[str, bytes | bytearray]]) -> bytes:
    """Fields as bytes. A key may come more than once."""
    return b"".join(_field_parts(pairs))


def _field_parts(pairs: Iterable[tuple[str, bytes | bytearray]]) -> list[bytes | bytearray]:
    parts: list[bytes | bytearray] = []
    for key, value in pairs:
        name = key.encode()
        parts += (bytes((len(name),)), name, len(value).to_bytes(4, "big"), value)
    return parts


def unpack_fields(payload: bytes) -> list[tuple[str, bytes]]:
    """The fields in a payload. Raises ProtocolError."""
    pairs = []
    position, end = 0, len(payload)
    while position < end:
        name_end = position + 1 + payload[position]
        value_start = name_end + 4
        value_end = value_start + int.from_bytes(payload[name_end:value_start], "big")
        if value_start > end or value_end > end:
            raise ProtocolError("a field is longer than its payload")
        name = payload[position + 1 : name_end]
        if not name.isascii():
            raise ProtocolError("a field's key is not ASCII")
        pairs.append((name.decode(), payload[value_start:value_end]))
        position = value_end
    return pairs


class Decoder:
    """Cuts a byte stream into frames. `max_payload` bounds what it will hold."""

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take bytes; the frames (kind, channel, payload) complete by now. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        frames = []
        position = 0
        while len(buffer) - position >= HEADER_BYTES:
            length = int.from_bytes(buffer[position + 5 : position + 9], "big")
            if length > self._max_payload:
                raise ProtocolError(f"a frame of {length} bytes; at most {self._max_payload} are allowed")
            end = position + HEADER_BYTES + length
            if len(buffer) < end:
                break
            channel = int.from_bytes(buffer[position + 1 : position + 5], "big")
            frames.append((buffer[position], channel, bytes(buffer[position + HEADER_BYTES : end])))
            position = end
        del buffer[:position]
        return frames
