"""The supervisor's side of a zygote: starting it, and asking it for clones."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

import isol8
from isol8.engines.native.limits import limit_resources
from isol8.engines.native.request import READY_BY_TABLE, READY_IN_PYTHON
from isol8.engines.native.root import RootSpec, enter_root
from isol8.errors import EngineFailure
from isol8.kernel import namespaces, privileges
from isol8.kernel.signals import reset_signals

_LOG = logging.getLogger("isol8.zygote")
_START_TIMEOUT_S = 60
_ANSWER_TIMEOUT_S = 60
_CONTROL = 3
# Prints where an interpreter keeps its library, and the file behind its `sitecustomize`, if any.
_PROBE = (
    "import importlib.util, os; s = importlib.util.find_spec('sitecustomize');"
    "print(os.path.dirname(os.__file__)); print(os.path.realpath(s.origin) if s and s.origin else '')"
)


def describe_root(python: str, prefixes: dict[str, str]) -> RootSpec:
    """The root in which `python` boots. Raises EngineFailure if that interpreter does not run."""
    try:
        output = subprocess.run(
            [python, "-s", "-c", _PROBE], capture_output=True, text=True, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineFailure(f"{python} does not run: {error}") from error
    stdlib, customize = output.split("\n")[:2]
    package = str(Path(isol8.__file__).parent)
    return RootSpec(package=package, stdlib=stdlib, customize=customize or None, prefixes=prefixes)


class Zygote:
    """A live zygote. `clone` may be called concurrently; `close` ends the process."""

    def __init__(self, python: str, root: RootSpec, environment: dict[str, str]) -> None:
        self._python = python
        self._root = root
        self._environment = environment
        self._pending: deque[asyncio.Future[int]] = deque()
        self._control: socket.socket | None = None
        self._pid = 0
        self._errors = bytearray()
        self._by_table = False
        self._taught = False

    @property
    def pid(self) -> int:
        """The process it is."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked for clones."""
        return self._control is not None

    @property
    def takes_plain(self) -> bool:
        """Whether it can be asked by a plain message: after the first request, from which it learns."""
        return self._by_table and self._taught

    async def start(self) -> None:
        """Fork it and wait until it is ready. Raises EngineFailure with what it printed."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors, errors_writer = os.pipe()
        os.set_blocking(errors, False)
        self._pid = os.fork()
        if self._pid == 0:
            self._become_zygote(theirs.fileno(), errors_writer)
        theirs.close()
        os.close(errors_writer)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(errors, self._read_errors, errors)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                greeting = await loop.sock_recv(ours, 64)
        except TimeoutError:
            greeting = b""
        self._by_table = greeting == READY_BY_TABLE
        if greeting not in (READY_BY_TABLE, READY_IN_PYTHON):
            ours.close()
            self._end()
            raise EngineFailure(f"the zygote did not start: {self._errors.decode(errors='replace').strip()[-2000:]}")
        self._control = ours
        loop.add_reader(ours, self._read_answer)

    def _become_zygote(self, control: int, errors: int) -> None:
        """In the fork: the right descriptors, default signals, limits, namespaces, the root; then the interpreter."""
        try:
            os.setsid()
            privileges.die_with_parent(signal.SIGKILL)
            reset_signals()
            _arrange_descriptors(control, errors)
            limit_resources()
            namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWIPC)
            socket.sethostname("sandbox")
            enter_root(self._root)
            os.umask(0o022)
            os.execve(self._python, ["python3", "/sandbox/main.py"], self._environment)
        except BaseException as error:  # noqa: BLE001 - a fork never returns into the caller
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(70)

    def _read_errors(self, descriptor: int) -> None:
        """What the zygote or a sandbox in the making printed: kept for the error message, and logged."""
        try:
            data = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        if data:
            self._errors = (self._errors + data)[-8192:]
            _LOG.error("%s", data.decode(errors="replace").strip())
            return
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    async def clone(self, message: bytes, descriptors: list[int]) -> int:
        """The pid of a new sandbox's process 1, a child of this process. `message` is that of `pack_request`, or, if it
        takes such, of `plain_message`. Raises EngineFailure."""
        if self._control is None:
            raise EngineFailure("the zygote is not running")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            self._control.sendmsg([message], rights)
        except OSError as error:
            raise EngineFailure(f"the zygote does not take requests: {error}") from error
        self._taught = True
        self._pending.append(answer)
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                pid = await answer
        except TimeoutError as error:
            self.close()  # nobody would take what it may make after all
            raise EngineFailure("the zygote does not answer") from error
        if pid < 0:
            raise EngineFailure(f"the kernel refused a sandbox: {os.strerror(-pid)}")
        return pid

    def _read_answer(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(64)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            future = self._pending.popleft()
            if not future.cancelled():
                future.set_result(int.from_bytes(data, sys.byteorder, signed=True))
            return
        self.close()

    def close(self) -> None:
        """End the process and fail what waits for it. Idempotent."""
        control, self._control = self._control, None
        if control is None:
            return
        asyncio.get_running_loop().remove_reader(control)
        control.close()
        self._end()
        while self._pending:
            future = self._pending.popleft()
            if not future.done():
                future.set_exception(EngineFailure("the zygote died"))

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _arrange_descriptors(control: int, errors: int) -> None:
    """0 and 1 pipes (an interpreter looks at the kind of its streams), 2 the log, 3 the control socket."""
    stdin, stdin_writer = os.pipe()
    stdout_reader, stdout = os.pipe()
    high = [os.dup(descriptor) for descriptor in (stdin, stdout, errors, control)]
    base = max(*high, stdin_writer, stdout_reader) + 1
    moved = [base + index for index in range(4)]
    for source, target in zip(high, moved, strict=True):
        os.dup2(source, target)
    for target, source in enumerate(moved):
        os.dup2(source, target, inheritable=True)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
