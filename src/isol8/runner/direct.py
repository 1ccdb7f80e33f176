"""A worker that takes the first START from the stream by itself, while process 1 runs no interpreter.

It does so when the START asks for just what it would become, with all of a short standard input behind it. Anything
else it leaves where it is: process 1 becomes a runner like any other, and the worker one like any other.
"""

from __future__ import annotations

import _socket
import os

from isol8.runner import frames
from isol8.runner.files import write_file
from isol8.runner.holding import HOME
from isol8.runner.worker import await_go, become_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

CHANNEL_BYTES = 4
BEGUN_BYTES = 3 * CHANNEL_BYTES + 8  # what process 1 is told: the channel, as often as it needs it, and the cap
_MOST_BYTES = 64 * 1024  # of a START and its input
_MOST_INPUT_BYTES = 4096  # a pipe takes them at once


class Start:
    """A START that is whole, and its standard input. `size` is what they take up in the stream."""

    def __init__(self, channel: int, fields: list[tuple[str, bytes]], stdin: bytes, size: int) -> None:
        single = dict(fields)
        self.channel = channel
        self.argv = [value for key, value in fields if key == "argv"]
        self.env = [value for key, value in fields if key == "env"]
        self.path, self.directory = os.fsdecode(single["path"]), os.fsdecode(single["cwd"])
        self.source = single["source"]
        self.warm = single["warm"] == b"1"
        self.cap = int(single["cap"])
        self.stdin = stdin
        self.size = size


def read_start(data: bytes) -> Start | None:
    """What the stream begins with, if it is a START and all of its input. Raises ProtocolError."""
    first, stdin, position = None, b"", 0
    while len(data) - position >= frames.HEADER_BYTES:
        kind, channel = data[position], int.from_bytes(data[position + 1 : position + 5], "big")
        begin = position + frames.HEADER_BYTES
        end = begin + int.from_bytes(data[position + 5 : begin], "big")
        if end > len(data):
            return None
        position, payload = end, data[begin:end]
        if first is None:
            if kind != frames.START:
                return None
            first = channel, frames.unpack_fields(payload)
        elif (kind, channel) != (frames.STDIN, first[0]):
            return None
        elif not payload:
            return Start(*first, stdin, position)
        else:
            stdin += payload
    return None


def wait_for_start(pipes: tuple[int, int], stream: int, stdin: int, argv: list[bytes]) -> NoReturn:
    """In a worker: say READY, and wait for the server. `pipes` are where a runner says what to become, and where
    process 1 is told that the program begins; `stdin` is what feeds it. Raises Released or executes."""
    go, report = pipes
    os.write(stream, frames.encode(frames.READY, 0))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, stream)
    data = connection.recv(_MOST_BYTES, _socket.MSG_PEEK)
    if not data:
        os._exit(0)  # process 1 sees the same
    start = _prepared(data, argv)
    if start is None:
        connection.close()
        os.close(stdin)
        os.close(report)
        await_go(go)
    os.write(stdin, start.stdin)
    # Before it is taken: were this the last that is heard of the worker, process 1 would still tell its end.
    channel = start.channel.to_bytes(CHANNEL_BYTES, "big")
    os.write(report, channel * 3 + start.cap.to_bytes(8, "little"))
    left = start.size
    while left:
        left -= len(connection.recv(left))
    connection.detach()
    become_program(start.directory, start.env)


def _prepared(data: bytes, argv: list[bytes]) -> Start | None:
    """A START that the worker can follow, with its program in place. What goes wrong would go wrong for a runner too,
    who can say so."""
    try:
        start = read_start(data)
        if start is None or not start.warm or start.argv != argv or len(start.stdin) > _MOST_INPUT_BYTES:
            return None
        os.makedirs(start.directory, exist_ok=True)
        # A user's own site directory is looked at while the interpreter boots, so it needs a fresh one.
        if os.path.isdir(f"{HOME}/.local"):
            return None
        write_file(start.path, start.source)
    except (OSError, ValueError, KeyError, frames.ProtocolError):
        return None
    return start
