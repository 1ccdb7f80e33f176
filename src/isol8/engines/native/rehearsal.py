"""A program that every zygote runs once, in a sandbox of its own: which memory do runners and programs write to?

Sandboxes then take copies of just those pages ahead of time (kernel/memory.py), at half the price of a page fault each
while a request is waited for.
"""

from __future__ import annotations

import os

from isol8.kernel import memory
from isol8.runner.frames import EXIT, START, STDIN, STDOUT, Decoder, encode, encode_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

# A little of what every program does; what only some do is copied when they do it. It is looked at while it waits.
_PROGRAM = b"""
def greet(names):
    for number, name in enumerate(names, 1):
        print(f"{number}: hello {name}")
greet(["you", "all"])
input()
"""
_MOST_FRAME_BYTES = 4096
Ranges = list[tuple[int, int]]


def rehearse(runner: int, stream: socket, path: str) -> tuple[Ranges, Ranges]:
    """(of the runner, of the program): (start, length) in bytes of the memory, of what this process has, that they
    wrote to. `runner` is the process at the other end of `stream`, both of them the caller's to end.

    Raises OSError, and EOFError if the runner ends.
    """
    conversation = _Conversation(stream)
    fields = [("path", path.encode()), ("source", _PROGRAM), ("cwd", os.path.dirname(path).encode())]
    fields += [("argv", b"python3"), ("argv", path.encode()), ("warm", b"1"), ("cap", b"1024")]
    stream.sendall(encode_fields(START, 1, fields))
    conversation.until(STDOUT)
    with open(f"/proc/{runner}/task/{runner}/children") as file:
        written = memory.pages(memory.EXCLUSIVE, int(file.read().split()[0]))
    stream.sendall(encode(STDIN, 1, b"\n") + encode(STDIN, 1))
    conversation.until(EXIT)
    # Now that the program is gone, what the runner shared with it is the runner's alone.
    ours = memory.pages(memory.PRESENT)
    return memory.ranges(ours & memory.pages(memory.EXCLUSIVE, runner)), memory.ranges(ours & written)


class _Conversation:
    def __init__(self, stream: socket) -> None:
        self._stream = stream
        self._decoder = Decoder(_MOST_FRAME_BYTES)

    def until(self, wanted: int) -> None:
        """Read to a frame of that kind."""
        while data := self._stream.recv(_MOST_FRAME_BYTES):
            if any(kind == wanted for kind, _, _ in self._decoder.feed(data)):
                return
        raise EOFError("the runner has ended")
