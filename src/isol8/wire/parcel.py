"""What is set aside of a large document: the inside of a long string or a long list, decoded a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from isol8.errors import InvalidRequest
from isol8.wire import checks

PIECE_BYTES = 64 * 1024
_UNIT_BYTES = 12  # of the longest unit of a string: two \u that make one character
_NO_STRING = "The body is not valid JSON: invalid characters in a string"


class Parcel:
    """The inside of one long string, or of one list of numbers, as it stands in the document. It can be decoded once:
    what has been decoded is let go."""

    def __init__(self, is_list: bool) -> None:
        self.is_list = is_list
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """More of it."""
        if piece:
            self._pieces.append(piece)
            self.size += len(piece)

    def whole(self) -> bytes:
        """All of it; for short ones."""
        return b"".join(self._pieces)

    def content(self) -> Iterator[bytes]:
        """What it stands for where it is a file's content itself. Raises as `text` and `numbers` do."""
        return self.numbers() if self.is_list else self.text()

    def text(self) -> Iterator[bytes]:
        """The string's characters, in UTF-8. Raises InvalidRequest when it is no JSON string."""
        rest = b""
        for piece in self._drain():
            decoded, rest = _decode_front(rest + piece)
            yield decoded
        if rest:
            raise InvalidRequest(_NO_STRING)

    def base64(self) -> Iterator[bytes]:
        """The bytes behind the string. Raises ValueError when it is no base64, InvalidRequest when it is no string."""
        rest, padded = b"", False
        for piece in self._characters():
            ready = rest + piece
            end = len(ready) - len(ready) % 4
            ready, rest = ready[:end], ready[end:]
            if padded and (ready or rest):
                raise ValueError(checks.NOT_BASE64)
            padded = ready.endswith(b"=")
            yield checks.base64_bytes(ready)
        if rest:
            raise ValueError(checks.NOT_BASE64)

    def numbers(self) -> Iterator[bytes]:
        """The list's numbers, as bytes. Raises ValueError when one is no byte, InvalidRequest when it is no list."""
        rest, comma = b"", b""
        for piece in self._drain():
            ready, comma, rest = (rest + piece).rpartition(b",")
            if comma:
                yield _bytes_of_list(ready)
            elif len(rest) > PIECE_BYTES:
                break
        if comma and not rest.strip():
            raise InvalidRequest("The body is not valid JSON: a list ends with a comma")
        yield _bytes_of_list(rest)

    def _drain(self) -> Iterator[bytes]:
        self._pieces.reverse()
        while self._pieces:
            yield self._pieces.pop()

    def _characters(self) -> Iterator[bytes]:
        """As `text`; but what has no escapes is given as it is, for whoever looks at each character anyway."""
        rest = b""
        for piece in self._drain():
            if not rest and b"\\" not in piece:
                yield piece
            else:
                decoded, rest = _decode_front(rest + piece)
                yield decoded
        if rest:
            raise InvalidRequest(_NO_STRING)


def _decode_front(raw: bytes) -> tuple[bytes, bytes]:
    """As much of a string as is complete, decoded; and the rest: half a character, or half an escape."""
    for end in range(len(raw), max(0, len(raw) - _UNIT_BYTES), -1):
        try:
            text: str = orjson.loads(b'"%b"' % raw[:end])
        except orjson.JSONDecodeError:
            continue
        return text.encode(), raw[end:]
    if len(raw) < _UNIT_BYTES:
        return b"", raw
    raise InvalidRequest(_NO_STRING)


def _bytes_of_list(text: bytes) -> bytes:
    try:
        numbers = orjson.loads(b"[%b]" % text)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not valid JSON: invalid numbers in a list") from None
    return checks.bytes_of(numbers)
