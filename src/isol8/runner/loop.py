"""The runner: process 1 of a sandbox.

Theory of operation. The runner sits in one `poll` over its stream from the server, a pipe that SIGCHLD writes to,
and the pipes of the program that runs. Before it says READY it forks a worker, or has an interpreter boot and wait, so
that a START only has to write the program file and let that go. When the main process is reaped, the pipes are drained
of what they hold and EXIT is sent; children that live on keep their pipes, whose contents are dropped. The stream is
the runner's reason to live: at its end it exits, and the kernel kills everything else in the pid namespace. Where the
stream does not end with its server (`Keeping`), the next server may resume, and what the one before had begun ends: its
program and its files.

Only the writes to the stream block: a server that does not read stops the program's output, not its memory.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os
import select
import time

from isol8.runner import frames
from isol8.runner.ends import Ends
from isol8.runner.files import Uploads, read_chunks
from isol8.runner.frames import encode, unpack_fields
from isol8.runner.program import Background, Begun, Program
from isol8.runner.resumption import resumed
from isol8.runner.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from isol8.runner.ends import Stops
    from isol8.runner.holding import Boot, Gate
    from isol8.runner.resumption import Keeping
    from isol8.runner.worker import Worker
else:
    Protocol = object  # typing would be half a megabyte in every sandbox

_MAX_REQUEST_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024  # room for more is mapped, and given back, each time
_LAST_WRITES_NS = 2_000_000_000
_CALM_MS = 100  # without anything to do, there is time to wait for the kernel


class Relay(Protocol):
    """What takes connections to a port of the loopback out of the sandbox. The engine makes it; see relay.py."""

    descriptor: int  # can be read when there is something to serve

    def listen(self, port: int) -> None:
        """Take connections. Raises OSError."""

    def serve(self) -> None:
        """See to what has happened. Returns at once."""


class Runner:
    """See the module's text. `on_fork` is called in every worker right after its fork, `settle` when the first is
    forked before there is a program. Without a `gate` no interpreter is held, without a `relay` no port listened on.
    `copied` is a worker that has become the interpreter to be held already. With what has `begun` before, the server
    has been told READY. `output` is where frames go when `stream` can only be read. Without `stops` the end of every
    program is waited for; see ends.py."""

    def __init__(
        self,
        stream: int,
        boot: Boot,
        on_fork: Callable[[], None],
        gate: Gate | None = None,
        output: int = -1,
        settle: Callable[[], None] = lambda: None,
        keeping: Keeping | None = None,
        relay: Relay | None = None,
        copied: Worker | None = None,
        begun: Begun | None = None,
        stops: Stops | None = None,
    ) -> None:
        self._stream = stream
        self._output = stream if output < 0 else output
        self._settle = settle
        self._keeping = keeping
        self._relay = relay
        self._ends = Ends(stops)
        self._decoder = frames.Decoder(_MAX_REQUEST_BYTES)
        self._begun = begun
        self._program = begun.program if begun else None
        self._background = Background()
        self._uploads = Uploads()
        self._wake, wake_writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_writer, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        if begun:
            os.write(wake_writer, b"\0")  # processes may have ended before
        worker = begun.worker if begun else None
        self._waiting = Waiting(boot, on_fork, gate, self._ends, self._wake, copied=copied, worker=worker)

    def serve(self) -> NoReturn:
        """Serve until the stream ends, then exit the process. Returns never; in a worker, raises Released."""
        if not self._begun:
            self._waiting.begin(self._settle)
            self._send(encode(frames.READY, 0))
        elif self._begun.status is not None:
            self._finish(self._begun.status)
        while True:
            self._step()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]

    def _step(self) -> None:
        """Wait for something to happen, and see to it."""
        program = self._program
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        if self._relay:
            poll.register(self._relay.descriptor, select.POLLIN)
        outputs = dict(program.outputs()) if program else {}
        for descriptor in outputs:
            poll.register(descriptor, select.POLLIN)
        spilled = self._background.outputs()
        for descriptor in spilled:
            poll.register(descriptor, select.POLLIN)
        if program and program.stdin >= 0:
            poll.register(program.stdin, select.POLLOUT)
        over = self._waiting.gate_is_over
        events = poll.poll(self._keeping.wait_ms() if self._keeping else _CALM_MS if over else None)
        if not events and self._keeping and self._keeping.wait_ms() == 0:
            os._exit(0)  # no server has come back
        if not events and over:
            self._waiting.forget_gate()
        self._dispatch({descriptor for descriptor, _ in events}, outputs, spilled)

    def _dispatch(self, ready: set[int], outputs: dict[int, int], spilled: dict[int, Worker]) -> None:
        program = self._program
        if program:
            for descriptor in ready & outputs.keys():
                data, _ = program.read(descriptor, outputs[descriptor])
                if data:
                    self._send(encode(outputs[descriptor], program.channel, data))
            if program.stdin in ready:
                program.pump()
        for descriptor in ready & spilled.keys():
            self._background.drop(descriptor, spilled[descriptor])
        if self._relay and self._relay.descriptor in ready:
            self._relay.serve()
        if self._wake in ready:
            os.read(self._wake, 4096)
            self._reap()
        if self._stream in ready:
            self._receive()

    def _reap(self) -> None:
        """Collect every process that has ended."""
        while self._collect():
            pass

    def _collect(self, *, wait: bool = False) -> bool:
        """Collect one, if there is one; the main one ends the execution."""
        last = self._program.pid if self._program and self._program.last else 0
        ended = self._ends.next(last, wait=wait)
        if ended is None:
            return False
        pid, status = ended
        if self._program and pid == self._program.pid:
            self._finish(status)
        else:
            self._waiting.ended(pid)
        return True

    def _end_left(self) -> None:
        """Have the program that is over taken apart, and wait for that. What it may still have to write it writes; but
        it has had its time, so not for long."""
        left, until = self._ends.left, time.monotonic_ns() + _LAST_WRITES_NS
        unfinished = self._ends.unfinished
        self._ends.take_left_apart()
        if unfinished:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            while self._ends.left and time.monotonic_ns() < until:
                if not self._collect() and poll.poll(_CALM_MS):
                    os.read(self._wake, 4096)
            if self._ends.left:
                os.kill(left, _signal.SIGKILL)
        while self._ends.left:
            self._collect(wait=True)

    def _finish(self, status: int) -> None:
        program, self._program = self._program, None
        assert program is not None
        for kind, data in program.drain():
            self._send(encode(kind, program.channel, data))
        code = os.waitstatus_to_exitcode(status)
        code = 128 - code if code < 0 else code
        self._send(encode(frames.EXIT, program.channel, code.to_bytes(4, "big")))
        self._background.add(program.keep_open())

    def _receive(self) -> None:
        data = os.read(self._stream, _READ_BYTES)
        if not data:
            os._exit(0)
        while self._keeping and (found := self._keeping.find(data)):
            number, data = found
            self._resume(number)
        for kind, channel, payload in self._decoder.feed(data):
            try:
                self._request(kind, channel, payload)
            except OSError as error:
                self._fail(channel, error)

    def _resume(self, number: bytes) -> None:
        """Another server: what the one before had begun is over. Background processes of its session are not."""
        self._decoder = frames.Decoder(_MAX_REQUEST_BYTES)
        self._uploads.abort()
        if self._program:
            self._kill_all()
        self._send(resumed(number))

    def _fail(self, channel: int, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        text = f"{name}\0{error.strerror or error}"
        self._send(encode(frames.FAILED, channel, text.encode()))

    def _request(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == frames.START:
            self._start(channel, unpack_fields(payload))
        elif kind == frames.STDIN:
            if self._program and self._program.channel == channel:
                self._program.feed(payload)
        elif kind == frames.KILL:
            self._kill(channel)
        elif kind == frames.GET:
            self._get(channel, dict(unpack_fields(payload)))
        elif kind in (frames.PUT, frames.DATA, frames.END):
            self._take_in(kind, channel, payload)
        elif kind == frames.PREPARE and not self._program:
            self._waiting.prepare()
        elif kind == frames.LISTEN:
            self._listen(channel, int(dict(unpack_fields(payload))["port"]))

    def _start(self, channel: int, fields: list[tuple[str, bytes]]) -> None:
        self._end_left()
        single, worker = dict(fields), self._waiting.start(fields)
        self._program = Program(channel, worker, int(single["cap"]), last=single.get("last") == b"1")
        if self._program.last:
            self._ends.watch(worker.pid)

    def _kill(self, channel: int) -> None:
        """The program is over when this is confirmed, so that the next START finds the way clear."""
        self._kill_all()
        self._send(encode(frames.DONE, channel))

    def _kill_all(self) -> None:
        """SIGKILL to everything but this process, at once: kill(-1) holds the kernel's process list meanwhile."""
        self._waiting.drop()
        try:
            os.kill(-1, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        # Not for this one alone: those that it has made be watched stop at their ends, and may keep it from its own.
        while self._program:
            self._collect(wait=True)
        self._end_left()

    def _get(self, channel: int, fields: dict[str, bytes]) -> None:
        self._waiting.discard_held()  # who opens its program file waits for this very process
        if self._ends.unfinished:
            self._end_left()
        for chunk in read_chunks(os.fsdecode(fields["path"]), int(fields["max"])):
            self._send(encode(frames.DATA, channel, chunk))
        self._send(encode(frames.END, channel))

    def _take_in(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == frames.PUT:
            self._uploads.begin(channel, os.fsdecode(dict(unpack_fields(payload))["path"]))
        elif kind == frames.DATA:
            self._uploads.write(channel, payload)
        elif self._uploads.finish(channel):
            self._send(encode(frames.DONE, channel))

    def _listen(self, channel: int, port: int) -> None:
        if self._relay is None:
            raise OSError(errno.EOPNOTSUPP, "this sandbox has no relay")
        self._relay.listen(port)
        self._send(encode(frames.DONE, channel))
