"""What waits in a sandbox for its next program: a worker, or an interpreter that is held where it opens its file."""

from __future__ import annotations

import os
import select

from isol8.runner.files import write_file
from isol8.runner.holding import HOME, Held
from isol8.runner.stamps import Stamps, now
from isol8.runner.worker import Worker, fork_worker, start_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from isol8.runner.ends import Ends
    from isol8.runner.holding import Boot, Gate


class Waiting:
    """Of one runner, at most one of the two at a time.

    `on_fork` is called in every worker right after its fork. Without a `gate` no interpreter is held; `copied` is a
    worker that has become the one to be held already. `worker` is one that waits from the start. `ends` tells which of
    the runner's children have ended, and `wake` can be read when some have.
    """

    def __init__(
        self,
        boot: Boot,
        on_fork: Callable[[], None],
        gate: Gate | None,
        ends: Ends,
        wake: int,
        *,
        copied: Worker | None = None,
        worker: Worker | None = None,
    ) -> None:
        self._boot = boot
        self._on_fork = on_fork
        self._gate = gate
        self._ends = ends
        self._wake = wake
        self._copied = copied
        self._worker = worker
        self._held: Held | None = None
        self._environment = [b"%b=%b" % pair for pair in os.environb.items()]

    def begin(self, settle: Callable[[], None]) -> None:
        """Have something wait before there is any program; `settle` is called when that is a worker. Raises
        RuntimeError when an interpreter ends while it boots, and Released in a worker."""
        if self._gate:
            self._held = self._hold(self._boot, self._gate)
        if not self._held:
            self._worker = self._fork()
            settle()

    def prepare(self) -> None:
        """Have a worker wait, if nothing does. Raises Released in it."""
        if not (self._worker or self._held):
            self._worker = self._fork()

    def start(self, fields: list[tuple[str, bytes]]) -> Worker:
        """Write the program file and let a worker become the program that a START asks for. Raises OSError; and
        Released in a worker that is forked for it."""
        single = dict(fields)
        argv = [value for key, value in fields if key == "argv"]
        env = [value for key, value in fields if key == "env"]
        path, directory = os.fsdecode(single["path"]), os.fsdecode(single["cwd"])
        if not os.path.isdir(directory):  # to try and be refused takes longer
            os.makedirs(directory, exist_ok=True)
        warm = single["warm"] == b"1"
        if warm and self._held and self._held.serves(argv, env, directory) and self._held.starts_now():
            return self._release_held(self._held, single["source"])
        self.discard_held()
        write_file(path, single["source"])
        # A user's own site directory is looked at while the interpreter boots, so it needs a fresh one.
        if warm and self._boot.forked and argv == self._boot.argv and not os.path.isdir(f"{HOME}/.local"):
            worker = self._worker or self._fork()
            self._worker = None
            worker.release(env, directory)
            return worker
        return self._execute(os.fsdecode(single["executable"]), argv, env, directory)

    def ended(self, pid: int) -> None:
        """A child has ended, and was reaped."""
        if self._worker and pid == self._worker.pid:
            self._discard_worker()
        elif self._held and pid == self._held.worker.pid:
            self.discard_held()

    def drop(self) -> None:
        """Let go of whatever waits: everything in the sandbox is about to be killed."""
        self.discard_held()
        self._discard_worker()

    def discard_held(self) -> None:
        """The request needs another interpreter, or a file of that name."""
        held, self._held = self._held, None
        if held:
            held.end()

    def _discard_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker:
            worker.close()

    @property
    def gate_is_over(self) -> bool:
        """Whether there is a gate that nobody is held at any more, for the kernel to forget."""
        return self._gate is not None and self._held is None

    def forget_gate(self) -> None:
        """Have the kernel forget it. That may take a while."""
        if self._gate:
            self._gate.forget()
            self._gate = None

    def _fork(self) -> Worker:
        return fork_worker(self._on_fork)

    def _execute(self, executable: str, argv: list[bytes], env: list[bytes], directory: str) -> Worker:
        """Another program, in the worker that waits, if one does. `env` is added to the sandbox's own."""
        whole, worker = self._environment + env, self._worker
        self._worker = None
        if worker is None and (started := start_program(executable, argv, whole, directory)):
            return started
        worker = worker or self._fork()
        worker.execute(executable, argv, whole, directory)
        return worker

    def _hold(self, boot: Boot, gate: Gate) -> Held | None:
        """Start an interpreter, and wait until it opens its program. None: it is not as is known, and was ended."""
        since = now()
        worker = self._copied or self._execute(boot.executable, boot.argv, [], HOME)
        poll = select.poll()
        poll.register(gate.descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        for number in range(boot.opens):
            if number:
                gate.pass_on()
            while gate.descriptor not in [descriptor for descriptor, _ in poll.poll()]:
                os.read(self._wake, 4096)
                if self._ends.of(worker.pid):
                    raise RuntimeError(f"{boot.executable} ended while it booted: {os.read(worker.stderr, 4096)!r}")
            gate.arrive()
        held = Held(worker, boot.argv, boot.path, gate)
        try:
            if boot.stamps:
                held.stamps = Stamps(worker.pid, boot.stamps, since)
        except (OSError, ValueError) as error:
            os.write(2, f"sandbox: {boot.executable} starts with its program: {error}\n".encode())
            held.end()
            return None
        return held

    def _release_held(self, held: Held, source: bytes) -> Worker:
        """Let it find the program."""
        try:
            held.release(source)
        except OSError:
            self.discard_held()
            try:
                self._ends.of(held.worker.pid, wait=True)  # until then it has the file open, which takes up room
            except ChildProcessError:
                pass  # it was reaped before
            raise
        self._held = None
        return held.worker
