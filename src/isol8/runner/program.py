"""One running program: its process, its pipes, and what is still to be fed to it or read from it."""

from __future__ import annotations

import os

from isol8.runner.frames import STDERR, STDOUT
from isol8.runner.worker import Worker

_READ_BYTES = 64 * 1024
# After the main process has ended, what its pipes can still hold is read, and no more: a child that goes on
# writing must not hold up the answer. A pipe holds at most /proc/sys/fs/pipe-max-size, 1 MiB.
_DRAIN_BYTES = 1024 * 1024


class Program:
    """A worker that has become the program of an execution. `last`: no other will come after it in this sandbox."""

    def __init__(self, channel: int, worker: Worker, output_bytes: int, *, last: bool) -> None:
        self.channel = channel
        self.last = last
        self.pid = worker.pid
        self._worker = worker
        self._stdin = bytearray()
        self._stdin_ends = False
        # One byte more than the caller keeps, so that it can tell "exactly full" from "too much".
        self._left = {STDOUT: output_bytes + 1, STDERR: output_bytes + 1}

    def outputs(self) -> list[tuple[int, int]]:
        """The open output pipes: (descriptor, frame kind)."""
        pairs = ((self._worker.stdout, STDOUT), (self._worker.stderr, STDERR))
        return [(descriptor, kind) for descriptor, kind in pairs if descriptor >= 0]

    @property
    def stdin(self) -> int:
        """The pipe to its standard input while there is something to write to it; else -1."""
        return self._worker.stdin if self._stdin else -1

    def feed(self, data: bytes) -> None:
        """Queue standard input; empty is its end."""
        if data:
            self._stdin += data
        else:
            self._stdin_ends = True
        self.pump()

    def pump(self) -> None:
        """Write what the pipe takes. A program that has closed its input loses the rest, as in a shell."""
        if self._worker.stdin < 0:
            self._stdin.clear()
            return
        try:
            while self._stdin:
                del self._stdin[: os.write(self._worker.stdin, self._stdin[:_READ_BYTES])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._stdin.clear()
            self._stdin_ends = True
        if self._stdin_ends:
            os.close(self._worker.stdin)
            self._worker.stdin = -1

    def read(self, descriptor: int, kind: int) -> tuple[bytes, bool]:
        """(what to pass on, whether there may be more). Past the cap it is read and dropped, so nobody blocks."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return b"", False
        if not data:
            self._worker.close_output(descriptor)
            return b"", False
        kept = data[: self._left[kind]]
        self._left[kind] -= len(kept)
        return kept, True

    def drain(self) -> list[tuple[int, bytes]]:
        """What is left in the pipes after the main process has ended: (frame kind, bytes)."""
        pieces = []
        for descriptor, kind in self.outputs():
            total = 0
            more = True
            while more and total < _DRAIN_BYTES:
                data, more = self.read(descriptor, kind)
                total += _READ_BYTES if more and not data else len(data)
                if data:
                    pieces.append((kind, data))
        return pieces

    def keep_open(self) -> Worker:
        """The pipes, for children of the program that live on in a session and must not die of SIGPIPE."""
        self._stdin.clear()
        if self._worker.stdin >= 0:
            os.close(self._worker.stdin)
            self._worker.stdin = -1
        return self._worker


class Background:
    """The outputs of programs that are over, for as long as children of theirs have them: what those write is lost."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def add(self, worker: Worker) -> None:
        """The pipes of one more. Whoever asked for the program no longer reads them."""
        if worker.stdout >= 0 or worker.stderr >= 0:
            self._workers.append(worker)

    def outputs(self) -> dict[int, Worker]:
        """The descriptors to wait for, and whose they are."""
        return {fd: worker for worker in self._workers for fd in (worker.stdout, worker.stderr) if fd >= 0}

    def drop(self, descriptor: int, worker: Worker) -> None:
        """Read away what was written; at its end, let go of the pipe."""
        if os.read(descriptor, _READ_BYTES):
            return
        worker.close_output(descriptor)
        if worker.stdout < 0 and worker.stderr < 0:
            self._workers.remove(worker)


class Begun:
    """What was there before the runner: a worker that waits, or a program that runs or, with a `status`, has ended."""

    def __init__(self, worker: Worker | None = None, program: Program | None = None, status: int | None = None) -> None:
        self.worker = worker
        self.program = program
        self.status = status
