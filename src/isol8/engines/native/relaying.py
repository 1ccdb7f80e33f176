"""What process 1 does for a program whose worker took the START by itself, as steps of a table (see first.py).

The worker says that it has begun (runner/direct.py). From then on process 1 carries what the program writes to the
server, reaps whatever ends, and at the program's end, when its pipes are empty and nobody else has them open, tells the
server. It comes back into Python, and goes on as any other runner, as soon as the server says anything, or when the
program has left somebody behind who may still write.
"""

from __future__ import annotations

from isol8.kernel import call_table
from isol8.runner.direct import BEGUN_BYTES, CHANNEL_BYTES
from isol8.runner.frames import HEADER_BYTES, STATUS, STDERR, STDOUT

_PIPE_BYTES = 64 * 1024
_SIGNAL_BYTES = 128
_SIGCHLD, _BLOCK, _MASK_BYTES = 17, 0, 8
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000
_WNOHANG = 1
_PEEK, _DONT_WAIT = 0x2, 0x40
_STATUS_BYTES = 4
RELAYED = 2  # the number of the first process that process 1 makes, the worker
_NO_DESCRIPTOR = 0xFFFFFFFF


def polled(*descriptors: int) -> bytes:
    """Of poll(2): each to be told of when it can be read."""
    return b"".join(descriptor.to_bytes(4, "little") + (1).to_bytes(4, "little") for descriptor in descriptors)


class _Output:
    """A pipe of the program's: its descriptor, its place in what is polled, and the frame in which it is passed on."""

    def __init__(self, table: call_table.CallTable, name: str, descriptor: int, kind: int, place: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.place = place
        self.header = table.put(bytes((kind,)) + bytes(HEADER_BYTES - 1))
        self.channel = self.header + 1
        self._length = self.header + 1 + CHANNEL_BYTES
        self._buffer = table.reserve(_PIPE_BYTES)
        # struct iovec, twice: the header, and what was read
        parts = (self.header, HEADER_BYTES, self._buffer, 0)
        self._vector = table.put(b"".join(part.to_bytes(8, "little") for part in parts))

    def carry(self, table: call_table.CallTable, stream: int, zero: str, failed: str) -> None:
        """Steps that pass on what is there. `zero`: it is at its end; `failed`: nothing is there."""
        into, count = self._vector + 24, self._length
        buffer = (self.descriptor, self._buffer, _PIPE_BYTES)
        table.call("read", *buffer, zero=zero, failed=failed, copy=into, reversed_copy=count)
        table.call("writev", stream, self._vector, 2, failed="let go")


class Relay:
    """The steps from where process 1 has cloned the worker and closed the worker's ends. They lead to "unstarted":
    the worker has left the stream to process 1, or ended; "running", "ending": the program has ended, and who may
    still have its pipes is to be seen to; "ended": and the server knows; and "let go": there is no server.
    `ours` are to be closed when a program has begun; `signals` tells of children."""

    def __init__(
        self, table: call_table.CallTable, stream: int, report: int, outputs: tuple[int, int], ours: list[int]
    ) -> None:
        self._table = table
        self._stream = stream
        self._report = report
        mask = table.put((1 << _SIGCHLD - 1).to_bytes(_MASK_BYTES, "little"))
        table.label("relay")
        table.call("rt_sigprocmask", _BLOCK, mask, 0, _MASK_BYTES)
        table.call("signalfd4", -1, mask, _MASK_BYTES, _NONBLOCK | _CLOEXEC)
        self.signals = min(ours + list(outputs)) - 1  # the lowest that is free
        self._pending = table.put(bytes(_SIGNAL_BYTES))
        self._polled = table.put(polled(stream, self.signals, *outputs))
        self._outputs = [
            _Output(table, name, descriptor, kind, self._polled + 8 * (2 + place))
            for place, (name, descriptor, kind) in enumerate(
                (("stdout", outputs[0], STDOUT), ("stderr", outputs[1], STDERR))
            )
        ]
        self._end = table.put(bytes((STATUS,)) + bytes(CHANNEL_BYTES) + _STATUS_BYTES.to_bytes(4, "big") + bytes(4))
        self._status = self._end + HEADER_BYTES
        self._cap = table.put(bytes(BEGUN_BYTES - CHANNEL_BYTES * 3))
        self._await_beginning(ours)
        self._carry()
        self._tell_end()

    def channel(self) -> int:
        """Of the program that has begun."""
        return int.from_bytes(self._table.read(self._end + 1, CHANNEL_BYTES), "big")

    def cap(self) -> int:
        """How much of each of its outputs is asked for."""
        return int.from_bytes(self._table.read(self._cap, 8), "little")

    def status(self) -> int:
        """How it ended."""
        return int.from_bytes(self._table.read(self._status, _STATUS_BYTES), "little")

    def _await_beginning(self, ours: list[int]) -> None:
        table = self._table
        places = [(each.channel, CHANNEL_BYTES) for each in self._outputs]
        places += [(self._end + 1, CHANNEL_BYTES), (self._cap, BEGUN_BYTES - CHANNEL_BYTES * 3)]
        vector = table.put(b"".join(b"".join(word.to_bytes(8, "little") for word in place) for place in places))
        table.call("readv", self._report, vector, len(places), zero="unstarted", failed="unstarted")
        for descriptor in ours:
            table.call("close", descriptor)
        # Until its end the START is the worker's to take.
        table.call("read", self._report, self._pending, 1)
        table.call("close", self._report)

    def _carry(self) -> None:
        table = self._table
        table.label("turn")
        table.call("poll", self._polled, 2 + len(self._outputs), -1, failed="running")
        table.call("read", self.signals, self._pending, _SIGNAL_BYTES, failed="stdout")
        for each, following in zip(self._outputs, ("stderr", "reap"), strict=True):
            table.label(each.name)
            each.carry(table, self._stream, zero=f"{each.name} ended", failed=following)
            table.call("getpid", zero=following, more=following)
            table.label(f"{each.name} ended")
            # The error is no descriptor: there the pipe is polled no more.
            table.call("close", _NO_DESCRIPTOR, copy=each.place, failed=following)
        table.label("reap")
        table.call("wait4", -1, self._status, _WNOHANG, 0, less=RELAYED, zero="tell", more="reap", failed="look")
        table.label("look")
        self._look(more="running", none="turn")

    def _tell_end(self) -> None:
        """What a pipe holds can be read at once. What comes then is another process's."""
        table = self._table
        for each, following in zip(self._outputs, ("tell stderr", "tell status"), strict=True):
            table.label("tell" if each is self._outputs[0] else "tell stderr")
            each.carry(table, self._stream, zero=following, failed="ending")
            each.carry(table, self._stream, zero=following, failed="ending")
            table.call("getpid", zero="ending", more="ending")
        table.label("tell status")
        table.call("write", self._stream, self._end, HEADER_BYTES + _STATUS_BYTES, failed="let go")
        for each in self._outputs:
            table.call("close", each.descriptor)
        table.label("idle")
        table.call("poll", self._polled, 2, -1, failed="ended")
        table.call("read", self.signals, self._pending, _SIGNAL_BYTES, failed="reap rest")
        table.label("reap rest")
        table.call("wait4", -1, self._pending, _WNOHANG, 0, more="reap rest", failed="look again")
        table.label("look again")
        self._look(more="ended", none="idle")

    def _look(self, more: str, none: str) -> None:
        """Whether the server has said anything. At its end it has let go of the sandbox."""
        at_once = _PEEK | _DONT_WAIT
        self._table.call(
            "recvfrom", self._stream, self._pending, 1, at_once, 0, 0, zero="let go", more=more, failed=none
        )
