"""A program that every zygote runs once, in a sandbox of its own: which memory do runners and programs write to?

Sandboxes then take copies of just those pages ahead of time (kernel/memory.py), at half the price of a page fault each
while a request is waited for.
"""

from __future__ import annotations

import os

from isol8.kernel import memory
from isol8.kernel.exit_stops import ExitStops
from isol8.runner.frames import EXIT, READY, START, STATUS, STDIN, STDOUT, Decoder, encode, encode_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

# A little of what every program does; what only some do is copied when they do it. It can be made to wait.
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
    start, answer = encode_fields(START, 1, fields), encode(STDIN, 1, b"\n") + encode(STDIN, 1)
    conversation.until(READY)
    # As most programs come: with all of their input, for the worker to take.
    worker, stops = _child(runner), ExitStops()
    stops.watch(worker)
    stream.sendall(start + answer)
    conversation.until(STDOUT)
    written = _written_at_its_end(worker, stops)
    conversation.until(EXIT, STATUS)
    # And without, for a runner in Python, which other runtimes have.
    stream.sendall(start)
    conversation.until(STDOUT)
    written = written or memory.pages(memory.EXCLUSIVE, _child(runner))
    stream.sendall(answer)
    conversation.until(EXIT)
    # Now that the program is gone, what the runner shared with it is the runner's alone.
    ours = memory.pages(memory.PRESENT)
    return memory.ranges(ours & memory.pages(memory.EXCLUSIVE, runner)), memory.ranges(ours & written)


def _child(process: int) -> int:
    """The only one that a process has."""
    with open(f"/proc/{process}/task/{process}/children") as file:
        return int(file.read().split()[0])


def _written_at_its_end(process: int, stops: ExitStops) -> set[int]:
    """The pages that a process, which `stops` watch, has written to when it ends; none where nobody may watch that."""
    try:
        _, stop = os.waitpid(process, 0)
    except ChildProcessError:
        return set()
    written = memory.pages(memory.EXCLUSIVE, process)
    stops.let_go(process, stop)
    return written


class _Conversation:
    def __init__(self, stream: socket) -> None:
        self._stream = stream
        self._decoder = Decoder(_MOST_FRAME_BYTES)
        self._said: list[int] = []

    def until(self, *wanted: int) -> None:
        """Read to a frame of one of these kinds."""
        while True:
            while self._said:
                if self._said.pop(0) in wanted:
                    return
            data = self._stream.recv(_MOST_FRAME_BYTES)
            if not data:
                raise EOFError("the runner has ended")
            self._said += [kind for kind, _, _ in self._decoder.feed(data)]
