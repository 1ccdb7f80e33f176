"""Large JSON documents, read without holding up everyone else.

A JSON parser that is given 256 MiB at once returns after seconds, and no thread can help: it holds the interpreter's
lock meanwhile. So a large document is read in pieces as it comes. What makes one large are contents: long strings, and
long lists of small numbers (Node's Buffers). Each is set aside as a `Parcel` and leaves a mark in its place; what is
left is a small document, which is parsed as any other and judged by the same types. Then the parcels that stand where
contents may stand are decoded, a step at a time, and take the places of their marks. One that stands anywhere else
makes the document invalid.

Where strings begin and end is all that is read here, and in JSON a quote has one meaning. What is in a parcel is
checked by a JSON parser too, when it is decoded. A mark is made of chance, so no document contains it that was not put
there; it is text that is also base64, and its bytes can be written as numbers.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from isol8.errors import Forbidden, InvalidRequest
from isol8.model import Content
from isol8.wire import checks
from isol8.wire.parcel import PIECE_BYTES, Parcel
from isol8.wire.request import ExecuteBody, ExecutionOptions, ExecutionRequest, Parsed, UploadBody, parse
from isol8.wire.strict import shown

# No path is longer, so what has to be a path is never set aside.
_LONG_BYTES = 4096
_LONG_LIST_BYTES = 256
_LONG = re.compile(rb'[^"]{%d}' % _LONG_LIST_BYTES)
_IN_NUMBERS = b"0123456789, \t\r\n"
_LONG_NUMBERS = re.compile(rb"(?<=\[)[0-9, \t\r\n]{%d,}" % _LONG_LIST_BYTES)
_STRINGS = re.compile(rb'"[^"]*"')
_ENDLESS_NUMBER = re.compile(rb"[0-9]{1024}")
_MARK_BYTES = 32
_TOO_MUCH = "The body has more names and short values in it than this server takes (policy.maxFiles)"
_OF_NESTING = 8  # what a list or an object counts for, beside its members: no request needs many

Value = TypeVar("Value")
Steps = Generator[None, None, Value]


class LargeBody:
    """A body that comes in pieces. `feed` them all, `parse`, then `restore`.

    `rest_bytes` bounds what is left of it beside parcels, `strings` and `values` how many strings, and how many lists,
    objects and members of them, are in that.
    """

    def __init__(self, rest_bytes: int, strings: int, values: int) -> None:
        self._most_bytes = rest_bytes
        self._quotes_left = 2 * strings
        self._values_left = values
        self._rest = bytearray()
        self._carried = b""  # a backslash at the end of a piece: what it escapes is still to come
        self._open: Parcel | None = None
        self._parcels: dict[bytes, Parcel] = {}
        self._mark = secrets.token_hex(12)

    def feed(self, data: bytes) -> None:
        """The next piece. Raises Forbidden and InvalidRequest when there is too much in the body beside contents."""
        for start in range(0, len(data), PIECE_BYTES):
            self._feed(self._carried + data[start : start + PIECE_BYTES])
            if len(self._rest) > self._most_bytes:
                raise Forbidden(_TOO_MUCH)

    def _feed(self, piece: bytes) -> None:
        self._carried = b""
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece, self._carried = piece[:-1], b"\\"
        # The same with nothing escaped in it. First pairs of backslashes: one that is left before a quote escapes it.
        plain = piece.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in piece else piece
        start = self._end_of_open(piece, plain)
        if start is None:
            return
        last, numbers = plain.rfind(b'"', start), len(piece.rstrip(_IN_NUMBERS))
        if plain.count(b'"', start) % 2:
            self._sift(piece, plain, start, last + 1)
            self._begin(piece[last + 1 :], is_list=False)
        elif piece[:numbers].endswith(b"["):
            self._sift(piece, plain, start, numbers)
            self._begin(piece[numbers:], is_list=True)
        else:
            self._sift(piece, plain, start, len(piece))

    def _begin(self, piece: bytes, is_list: bool) -> None:
        self._open = Parcel(is_list)
        self._open.add(piece)

    def _end_of_open(self, piece: bytes, plain: bytes) -> int | None:
        """Give what is open more of itself; where it ends in this piece, None if it does not."""
        if self._open is None:
            return 0
        if self._open.is_list:
            end = len(piece) - len(piece.lstrip(_IN_NUMBERS))
        else:
            end = plain.find(b'"')
        self._open.add(piece if end < 0 else piece[:end])
        if end in (-1, len(piece)):
            return None
        if self._open.is_list:
            self._close()
            return end
        self._close()
        self._rest += b'"'
        return end + 1

    def _close(self) -> None:
        """Leave a mark for what was open; or itself, when it turned out to be short."""
        parcel, self._open = self._open, None
        if parcel is not None:
            least = _LONG_LIST_BYTES if parcel.is_list else _LONG_BYTES
            self._rest += parcel.whole() if parcel.size < least else self._mark_for(parcel)

    def _mark_for(self, parcel: Parcel) -> bytes:
        mark = f"0{self._mark}{len(self._parcels):07x}".encode()
        self._parcels[mark] = parcel
        return b",".join(b"%d" % byte for byte in mark) if parcel.is_list else mark

    def _sift(self, piece: bytes, plain: bytes, start: int, end: int) -> None:
        """Take over what is from `start`, which is outside a string, to `end`; set aside what is long in it."""
        self._charge(plain[start:end])
        if not _LONG.search(plain, start, end):
            self._rest += piece[start:end]
            return
        within = False
        while True:
            quote = plain.find(b'"', start, end)
            stop = end if quote < 0 else quote
            if within:
                self._begin(piece[start:stop], is_list=False)
                self._close()
            else:
                self._rest += _LONG_NUMBERS.sub(self._list_aside, piece[start:stop])
            if quote < 0:
                return
            self._rest += b'"'
            start, within = quote + 1, not within

    def _charge(self, plain: bytes) -> None:
        """Count what costs the parser most."""
        outside = _LONG_NUMBERS.sub(b"", _STRINGS.sub(b"", plain))
        self._values_left -= outside.count(b",") + _OF_NESTING * (outside.count(b"[") + outside.count(b"{"))
        if self._values_left < 0:
            raise InvalidRequest("The body has more lists, objects and members in it than a request can have")
        if _ENDLESS_NUMBER.search(outside):
            raise InvalidRequest("The body has a number with too many digits in it")
        self._quotes_left -= plain.count(b'"')
        if self._quotes_left < 0:
            raise Forbidden(_TOO_MUCH)

    def _list_aside(self, numbers: re.Match[bytes]) -> bytes:
        parcel = Parcel(is_list=True)
        parcel.add(numbers[0])
        return self._mark_for(parcel)

    def parse(self, model: type[Parsed]) -> Parsed:
        """The body, with marks in it. Raises InvalidRequest."""
        self._close()
        self._rest += self._carried
        return parse(model, bytes(self._rest))

    def restore(self, body: Parsed) -> Steps[Parsed]:
        """The body as it was meant, a short step at a time. Raises InvalidRequest."""
        if isinstance(body, ExecuteBody):
            body = body.model_copy(
                update={
                    "request": (yield from self._restore_request(body.request)),
                    "options": (yield from self._restore_options(body.options)),
                }
            )
        elif isinstance(body, UploadBody):
            body = body.model_copy(update={"content": (yield from self._content("content", body.content))})
        if self._parcels:
            raise InvalidRequest("The body has a long value where none belongs")
        return body

    def _restore_request(self, request: ExecutionRequest) -> Steps[ExecutionRequest]:
        changes: dict[str, Any] = {}
        for name in ("code", "cmd", "setup_script", "stdin"):
            changes[name] = yield from self._content(f"request.{name}", getattr(request, name))
        if request.files:
            changes["files"] = {}
            for path, content in request.files.items():
                changes["files"][path] = yield from self._content(f"request.files.{shown(path)}", content)
        changes["env"] = yield from self._variables("request.env", request.env)
        changes["metadata"] = yield from self._texts(request.metadata)
        return request.model_copy(update=changes)

    def _restore_options(self, options: ExecutionOptions | None) -> Steps[ExecutionOptions | None]:
        if options is None:
            return None
        given = options.secrets or {}
        plain = yield from self._variables(
            "options.secrets", {name: value for name, value in given.items() if isinstance(value, str)}
        )
        return options.model_copy(update={"secrets": given | (plain or {})})

    def _content(self, place: str, value: Content | None) -> Steps[Content | None]:
        """What a mark stands for; anything else as it is."""
        found = self._find(value)
        if found is None:
            return value
        content = bytearray()
        try:
            for piece in found:
                content += piece
                yield
        except ValueError as error:
            raise InvalidRequest(f"{place} {error}") from None
        return content

    def _find(self, value: Content | None) -> Iterator[bytes] | None:
        if value is None or len(value) not in (_MARK_BYTES, _MARK_BYTES * 3 // 4):
            return None
        if parcel := self._parcels.pop(bytes(value), None):
            return parcel.content()
        if parcel := self._parcels.pop(base64.b64encode(value), None):
            return parcel.base64()
        return None

    def _variables(self, place: str, values: dict[str, str] | None) -> Steps[dict[str, str] | None]:
        restored = yield from self._texts(values)
        try:
            return restored and checks.variables(restored)
        except ValueError as error:
            raise InvalidRequest(f"{place} {error}") from None

    def _texts(self, values: dict[str, str] | None) -> Steps[dict[str, str] | None]:
        if values is None:
            return None
        restored = {}
        for name, value in values.items():
            content = yield from self._content(name, value.encode())
            restored[name] = value if content is None else content.decode()
        return restored
