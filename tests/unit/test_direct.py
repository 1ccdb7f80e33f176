"""What a worker makes of the beginning of its stream."""

from __future__ import annotations

import pytest

from isol8.runner import frames
from isol8.runner.direct import read_start
from isol8.runner.frames import ProtocolError, encode, encode_fields

FIELDS = [
    ("executable", b"/usr/bin/python3"), ("path", b"/sandbox/main.py"), ("source", b"print(1)"), ("cwd", b"/sandbox"),
    ("warm", b"1"), ("cap", b"1000"), ("argv", b"python3"), ("argv", b"/sandbox/main.py"), ("env", b"A=1"),
]  # fmt: skip
START = encode_fields(frames.START, 7, FIELDS)
END = encode(frames.STDIN, 7)


def test_a_start_and_all_of_its_input() -> None:
    data = START + encode(frames.STDIN, 7, b"some ") + encode(frames.STDIN, 7, b"input") + END
    start = read_start(data + encode(frames.KILL, 8))
    assert start
    assert (start.channel, start.argv, start.env) == (7, [b"python3", b"/sandbox/main.py"], [b"A=1"])
    assert (start.path, start.directory, start.source) == ("/sandbox/main.py", "/sandbox", b"print(1)")
    assert (start.warm, start.cap, start.stdin, start.size) == (True, 1000, b"some input", len(data))


def test_anything_less_is_left() -> None:
    data = START + encode(frames.STDIN, 7, b"input") + END
    for size in range(len(data)):
        assert read_start(data[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        encode(frames.KILL, 7) + START + END,
        START + encode(frames.KILL, 7) + END,
        START + encode(frames.STDIN, 8) + END,
        START + START + END,
        END + START,
    ],
)
def test_anything_else_is_left(data: bytes) -> None:
    assert read_start(data) is None


def test_broken_fields_are_an_error() -> None:
    with pytest.raises(ProtocolError):
        read_start(encode(frames.START, 7, b"\x05ab") + END)
