"""The head of an answer and the beginning of its body: one write."""

from __future__ import annotations

from typing import Any

from isol8.api.joined import Joined


class Written:
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.calls


def joined() -> tuple[Any, list[bytes | str]]:
    transport: Any = Written()
    return Joined(transport), transport.calls


def test_the_head_waits_for_the_first_piece_of_the_body() -> None:
    writer, calls = joined()
    writer.write(b"head")
    assert calls == []
    for piece in (b"one", b"two", b""):
        writer.write(piece)
    assert calls == [b"headone", b"two", b""]


def test_an_empty_piece_sends_the_head() -> None:
    writer, calls = joined()
    writer.write(b"head")
    writer.write(b"")
    assert calls == [b"head"]


def test_the_word_to_go_on_is_no_head() -> None:
    writer, calls = joined()
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.write(b"head")
    writer.write(b"body")
    assert calls == [b"HTTP/1.1 100 Continue\r\n\r\n", b"headbody"]


def test_closing_sends_a_head_that_waits() -> None:
    writer, calls = joined()
    writer.write(b"head")
    assert not writer.is_closing()
    writer.close()
    assert calls == [b"head", "closed"]
    assert writer.is_closing()


def test_nothing_is_written_to_what_is_closed() -> None:
    writer, calls = joined()
    writer.write(b"head")
    writer._transport.close()
    writer.close()
    assert calls == ["closed", "closed"]
    writer, calls = joined()
    writer.close()
    assert calls == ["closed"]
