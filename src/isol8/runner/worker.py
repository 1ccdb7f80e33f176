"""Workers: processes forked before they are needed, with their pipes in place, waiting to become a program.

A worker leaves its wait in one of two ways. It executes another program (`node main.js`), or, when it is a fork
of the very interpreter that is wanted, it *returns*: `Released` unwinds to the code that blocked the
interpreter's own start-up, which then runs the user's file by itself, exactly as a bare interpreter does.

When nobody has to wait, the other program is started without a fork: to copy the runner's memory only to leave it takes
longer than many a program.
"""

from __future__ import annotations

import _posixsubprocess
import _signal  # type: ignore[import-not-found]
import os
import sys

from isol8.runner.frames import pack_fields, unpack_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_VFORKS = (3, 11)  # from then on its arguments are these
PROGRAM_OOM_SCORE = b"300"  # between a program and its runner, the kernel should take the program


class Released(BaseException):
    """Raised in a worker that is to go on as the user's program. Carries nothing: all is in place."""


class Worker:
    """A waiting worker, seen from the runner. `close` lets go of the descriptors; the caller reaps the process."""

    def __init__(self, pid: int, go: int, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.go = go
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    def execute(self, executable: str, argv: list[bytes], env: list[bytes], directory: str) -> None:
        """Let it become another program. `env` is the whole environment."""
        fields = [("executable", executable.encode()), ("cwd", directory.encode())]
        fields += [("argv", value) for value in argv] + [("env", value) for value in env]
        self._send(pack_fields(fields))

    def release(self, env: list[bytes], directory: str) -> None:
        """Let it run the user's file in the interpreter it already is. `env` is added to what it has."""
        self._send(pack_fields([("cwd", directory.encode())] + [("env", value) for value in env]))

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        try:
            while view:
                view = view[os.write(self.go, view) :]
        except BrokenPipeError:
            pass  # it was killed while it waited; its exit status tells
        os.close(self.go)
        self.go = -1

    def unblock(self) -> None:
        """What the runner reads and writes must not hold it up."""
        for descriptor in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(descriptor, False)

    def close_output(self, descriptor: int) -> None:
        """Let go of one of its outputs, which is at its end."""
        os.close(descriptor)
        if descriptor == self.stdout:
            self.stdout = -1
        else:
            self.stderr = -1

    def close(self) -> None:
        """Close every descriptor that is still open."""
        for name in ("go", "stdin", "stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)


def fork_worker(on_fork: Callable[[], None]) -> Worker:
    """Fork a worker that is ready when this returns. In the worker, raises Released or executes.

    `on_fork` is called first in the worker: what the engine wants done in every program of the sandbox.
    """
    stdin, stdout, stderr, go, ready = os.pipe(), os.pipe(), os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        wait_as_worker(on_fork, (stdin[0], stdout[1], stderr[1]), (go[0], ready[1]))
    for descriptor in (stdin[0], stdout[1], stderr[1], go[0], ready[1]):
        os.close(descriptor)
    os.read(ready[0], 1)  # end of file: it is ready, or dead
    os.close(ready[0])
    worker = Worker(pid, go[1], stdin[1], stdout[0], stderr[0])
    worker.unblock()
    return worker


def wait_as_worker(on_fork: Callable[[], None], streams: tuple[int, int, int], pipes: tuple[int, int]) -> NoReturn:
    """In a process that was just made: be a worker. `pipes` are where it is told what to become, and what it closes
    when it is ready. Raises Released or executes."""
    _become_worker(on_fork, streams, pipes)
    os.close(pipes[1])
    await_go(pipes[0])


def start_program(executable: str, argv: list[bytes], env: list[bytes], directory: str) -> Worker | None:
    """Start a program as a worker would by executing it, by vfork(2). `env` is the whole environment. None: this
    interpreter has no means, or it failed: a worker tells why, or does it.

    Not by posix_spawn: what glibc starts so ignores two signals that it keeps to itself.
    """
    if sys.version_info < _VFORKS or "/" not in executable:
        return None
    single = list({item.partition(b"=")[0]: item for item in env}.values())
    stdin, stdout, stderr, failed = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    # What subprocess.Popen calls, without its module, which would be in every sandbox. In this order: arguments; what
    # to execute; close all but these; directory and environment; the pipes; signals as they were, a session of its own,
    # no process group; no other user, groups or umask; nothing to call before; by vfork.
    try:
        pid = _posixsubprocess.fork_exec(
            argv, (os.fsencode(executable),), True, (failed[1],), directory, single, *stdin, *stdout, *stderr, *failed,
            True, True, -1, None, None, None, -1, None, True,  # type: ignore[arg-type]
        )  # fmt: skip
    except OSError:
        pid = 0
    for descriptor in (stdin[0], stdout[1], stderr[1], failed[1]):
        os.close(descriptor)
    worker = Worker(pid, -1, stdin[1], stdout[0], stderr[0])
    reason = os.read(failed[0], 1)  # end of file: it has been executed
    os.close(failed[0])
    if reason or not pid:
        worker.close()
        if pid:
            os.waitpid(pid, 0)
        return None
    worker.unblock()
    set_oom_score(PROGRAM_OOM_SCORE, pid)
    return worker


def _become_worker(on_fork: Callable[[], None], streams: tuple[int, int, int], kept: tuple[int, ...]) -> None:
    """A session of its own, the three streams in place, the runner's signal settings undone, nothing else open but what
    is `kept`."""
    os.setsid()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    for target, source in enumerate(streams):
        os.dup2(source, target, inheritable=True)
    # Everything else that is open is the runner's: above all the other ends of these pipes.
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    on_fork()
    set_oom_score(PROGRAM_OOM_SCORE)


def set_oom_score(score: bytes, process: int | str = "self") -> None:
    """How soon the kernel takes a process when memory is short, unless it is to be taken sooner already: only root may
    go below what it was started with. Of one that has ended, nothing."""
    try:
        with open(f"/proc/{process}/oom_score_adj", "wb", buffering=0) as file:
            file.write(score)
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        pass


def await_go(go: int) -> NoReturn:
    """Block until the runner says what to become; then become it. The runner's end also closes when it dies."""
    parts = []
    while part := os.read(go, 1 << 20):
        parts.append(part)
    if not parts:
        os._exit(0)
    fields = unpack_fields(b"".join(parts))
    single = dict(fields)
    env = [value for key, value in fields if key == "env"]
    if "executable" in single:
        os.chdir(single["cwd"])
        _execute(single["executable"], [value for key, value in fields if key == "argv"], env)
    become_program(single["cwd"], env)


def become_program(directory: str | bytes, env: list[bytes]) -> NoReturn:
    """Run the user's file in this interpreter. `env` is added to what it has."""
    os.chdir(directory)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for item in env:
        name, _, value = item.partition(b"=")
        os.environb[name] = value
    raise Released


def _execute(executable: bytes, argv: list[bytes], env: list[bytes]) -> NoReturn:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # the interpreter ignores these two in itself
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    environment = dict(item.partition(b"=")[::2] for item in env)
    try:
        # A mere name is looked up in PATH: in an image that is not ours, nobody knows where its interpreters are.
        (os.execve if b"/" in executable else os.execvpe)(executable, argv, environment)
    except OSError as error:
        os.write(2, f"{os.fsdecode(executable)}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
