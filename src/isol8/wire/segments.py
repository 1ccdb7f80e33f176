"""JSON that is long, written in pieces: what is long in it is contents, which need not be there as JSON all at once."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from isol8.model import Content
from isol8.wire.large import Steps
from isol8.wire.parcel import PIECE_BYTES

_ENCODED_AT_ONCE = 192 * 1024  # a multiple of 3, which base64 makes 4 of


@dataclass(frozen=True, slots=True)
class Base64:
    """A content that becomes base64 when it is sent."""

    content: Content

    def __len__(self) -> int:
        return (len(self.content) + 2) // 3 * 4

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        for start in range(0, len(self.content), _ENCODED_AT_ONCE):
            yield base64.b64encode(self.content[start : start + _ENCODED_AT_ONCE])


Segments = list[bytes | Base64]


def pieces_of(segments: Segments) -> Iterator[bytes]:
    """What to send, in pieces whose making is short."""
    for segment in segments:
        if isinstance(segment, Base64):
            yield from segment.pieces()
        else:
            yield segment


def object_segments(
    values: Mapping[str, Any], texts: Mapping[str, list[str]], files: Mapping[str, Content] | None
) -> Steps[Segments]:
    """A JSON object of `values`, of `texts` that come in pieces, and of `files`, a short step at a time. The lists of
    `texts` are empty afterwards."""
    segments: Segments = [b"{"]
    for name, pieces in texts.items():
        segments += (orjson.dumps(name), b':"')
        for piece in _at_least(pieces, PIECE_BYTES):
            segments.append(orjson.dumps(piece)[1:-1])
            yield
        segments.append(b'",')
    segments.append(orjson.dumps(values)[1:-1])
    if files is not None:
        segments.append(b',"files":{')
        for number, (path, content) in enumerate(files.items()):
            segments += (b"," if number else b"", orjson.dumps(path), b':"', Base64(content), b'"')
        segments.append(b"}")
    segments.append(b"}")
    return segments


def _at_least(pieces: list[str], size: int) -> Iterable[str]:
    """The same text in fewer pieces; `pieces` is emptied on the way."""
    pieces.reverse()
    while pieces:
        joined, length = [], 0
        while pieces and length < size:
            joined.append(pieces.pop())
            length += len(joined[-1])
        yield "".join(joined)
