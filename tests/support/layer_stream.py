"""What a build sandbox would send: entries of a layer, well formed or not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

Entry = tuple[bytes, str, bytes]
END = b"e" + bytes(10)


def entry(kind: bytes, path: str | bytes, content: bytes = b"", size: int | None = None) -> bytes:
    """One entry. `size` is what it says of its content, the truth by default."""
    name = path if isinstance(path, bytes) else path.encode()
    length = len(content) if size is None else size
    return kind + len(name).to_bytes(2, "big") + length.to_bytes(8, "big") + name + content


def stream(*entries: bytes, about: object = None) -> bytes:
    """A whole layer."""
    said = [entry(b"a", "", json.dumps(about).encode())] if about is not None else []
    return b"".join([*said, *entries, END])


def files(contents: dict[str, bytes]) -> bytes:
    """A layer of files, which may be in directories."""
    directories: list[str] = []
    for path in contents:
        parts = path.split("/")[:-1]
        directories += ["/".join(parts[: at + 1]) for at in range(len(parts))]
    made = [entry(b"d", path) for path in dict.fromkeys(directories)]
    return stream(*made, *(entry(b"f", path, content) for path, content in contents.items()))


def pieces(data: bytes, sizes: Iterable[int] = ()) -> bytes:
    """A stream as the keeper takes it, cut where `sizes` say, and its end."""
    cut, at = [], 0
    for size in (*sizes, len(data)):
        part = data[at : at + size]
        if part:
            cut.append(len(part).to_bytes(4, "big") + part)
        at += size
    return b"".join([*cut, bytes(4)])


class Exactly:
    """Implements `Source` over bytes."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise EOFError
        return found
