"""Templates as the supervisor holds them: an interpreter that has booted, from which copies are made (`script.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from isol8.engines.native.copying import individual, installing
from isol8.engines.native.copying.booting import Booting
from isol8.engines.native.copying.ends import Ending, ending_of
from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.individual import Individual, Span
from isol8.engines.native.copying.rehearsing import Rehearsal
from isol8.engines.native.copying.script import Script
from isol8.engines.native.limits import limit_resources
from isol8.kernel import mounts, namespaces, privileges, ptrace, seccomp
from isol8.kernel.signals import reset_signals
from isol8.model import SANDBOX_DIR

_START_TIMEOUT_S = 60
_MOST_ANSWER_BYTES = 1 << 20
_LEAST_PID = 2000
_BLOCK = 64  # process numbers
_CAPABILITIES = "/proc/sys/kernel/cap_last_cap"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What is booted: as a sandbox's own would be, in the root of the process `zygote`."""

    executable: str
    argv: tuple[str, ...]
    path: str
    environment: tuple[tuple[str, str], ...]
    zygote: int


class Template:
    """A live template. `start` once; `close` ends it. `socket` is where copies are asked for (`asking.py`).

    It takes no process number that is in a block in `avoided`, and adds its own: what is there by chance is so for a
    whole range of numbers, such as those of characters in a table.
    """

    def __init__(self, interpreter: Interpreter, groups: int, avoided: set[int]) -> None:
        self._interpreter = interpreter
        self._groups = groups
        self._avoided = avoided
        self._individual: Individual | None = None
        self._pid = 0
        self._pidfd = -1
        self.leaving = b""  # how its end is known, if it is
        self.socket: socket.socket | None = None
        self.started = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether copies can be asked for."""
        return self._individual is not None and self.socket is not None

    def words(self, uid: int) -> bytes:
        """What makes a copy another one than all others: to be sent for one alone."""
        assert self._individual, "not started"
        return self._individual.pack(uid)

    async def start(self) -> None:
        """Boot it, and make a template of it. Raises Unfit."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        go_reader, go = os.pipe()
        self.socket = ours
        self._pid = _fork_beyond(_LEAST_PID, self._avoided)
        if self._pid == 0:
            os.close(go)
            self._become_interpreter(theirs.fileno(), go_reader)
        self._avoided.add(self._pid // _BLOCK)
        self._pidfd = os.pidfd_open(self._pid)
        loop.add_reader(self._pidfd, self.close)
        theirs.close()
        os.close(go_reader)
        try:
            answer = await self._operated(go)
        finally:
            os.close(go)
        if "unfit" in answer or self._pidfd < 0:
            self.close()
            raise Unfit(answer.get("unfit", "it has ended"))
        self.leaving = bytes.fromhex(answer["leaving"])
        self._individual = Individual.from_json(answer)

    async def _operated(self, go: int) -> dict[str, Any]:
        """Let a process of its own do the tracing, which blocks. What it says."""
        ours, theirs = socket.socketpair()
        tracer = os.fork()
        if tracer == 0:
            ours.close()
            self._become_tracer(go, theirs)
        theirs.close()
        ours.setblocking(False)
        text = b""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while part := await asyncio.get_running_loop().sock_recv(ours, _MOST_ANSWER_BYTES):
                    text += part
        except TimeoutError:
            text = b""
        finally:
            ours.close()
            _end(tracer)
        answer: dict[str, Any] = json.loads(text or b'{"unfit": "its tracer did not answer"}')
        return answer

    def _become_interpreter(self, control: int, go: int) -> NoReturn:
        try:
            os.setsid()
            privileges.die_with_parent(signal.SIGKILL)
            reset_signals()
            go = _arrange_descriptors(control, go)
            limit_resources()
            self._enter_root()
            self._prepare_directory()
            os.umask(0o022)
            if os.read(go, 1):
                os.close(go)
                os.execve(self._interpreter.executable, self._interpreter.argv, dict(self._interpreter.environment))
        except BaseException as error:  # noqa: BLE001 - a fork never returns into the caller
            os.write(2, f"template: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(70)

    def _enter_root(self) -> None:
        """The root that sandboxes begin with."""
        home = [
            os.open(f"/proc/{self._interpreter.zygote}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("mnt", "ipc", "uts")
        ]
        for descriptor in home:
            namespaces.enter(descriptor)
            os.close(descriptor)

    def _prepare_directory(self) -> None:
        """With its own /proc, and an empty program where it would be."""
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.mount("tmpfs", SANDBOX_DIR, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=64k")
        mounts.mount("proc", "/proc", "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)
        os.close(os.open(self._interpreter.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        os.chdir(SANDBOX_DIR)

    def _become_tracer(self, go: int, answer: socket.socket) -> NoReturn:
        try:
            found = self._trace(go)
        except (Unfit, OSError) as error:
            found = {"unfit": str(error)}
        except BaseException as error:  # noqa: BLE001 - a fork never returns into the caller
            os.write(2, f"template: {type(error).__name__}: {error}\n".encode())
            found = {"unfit": "its tracer failed"}
        try:
            answer.sendall(json.dumps(found).encode())
        finally:
            os._exit(0)

    def _trace(self, go: int) -> dict[str, Any]:
        privileges.die_with_parent(signal.SIGKILL)
        ptrace.seize(self._pid)
        ptrace.await_stop(self._pid)
        started = time.monotonic_ns(), time.time_ns()
        ptrace.resume(self._pid)
        os.write(go, b".")
        held = Booting(self._pid, self._interpreter.path).hold()
        span = Span(started[0], time.monotonic_ns(), started[1], time.time_ns())
        operation = installing.Operation(held)
        image = operation.perform()
        with open(_CAPABILITIES) as file:
            capabilities = int(file.read()) + 1
        script = Script(image, self._groups, SANDBOX_DIR, seccomp.compile_filter(), capabilities)
        ending = _ending(self._pid, held.memory)
        own, vector = individual.find(self._pid, held.memory, operation.mappings, span, script.users)
        thread_data = image.threads[0].registers["fs_base"]
        numbers = individual.find_numbers(self._pid, held.memory, operation.mappings, thread_data)
        first = script.write(own.places, vector, numbers)
        registers = dict(image.threads[0].registers)
        registers |= {"rip": image.code, "r15": first, "orig_rax": ptrace.NO_CALL}
        ptrace.set_general_registers(self._pid, registers)
        ptrace.detach(self._pid)
        assert self.socket is not None
        rehearsal = Rehearsal(self._interpreter.path, self.socket.fileno(), own.pack, self._groups)
        rehearsed = rehearsal.perform(self._enter_root, ending)
        script.use(rehearsed.wrote, rehearsed.read)
        return own.to_json() | {"leaving": rehearsed.leaving.hex()}

    def close(self) -> None:
        """End it. What has been copied stays. Idempotent."""
        self._individual = None
        if self.socket:
            self.socket.close()
            self.socket = None
        if self._pidfd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1


def _ending(process: int, memory: int) -> Ending | None:
    """Where its end begins. None: it cannot be told, and a copy is then taken apart like any other process."""
    try:
        return ending_of(process, memory)
    except Unfit:
        return None


def _end(tracer: int) -> None:
    os.kill(tracer, signal.SIGKILL)
    os.waitpid(tracer, 0)


def _fork_beyond(least: int, avoided: set[int]) -> int:
    """Fork a process whose number no copy has: where it is another one, OpenSSL takes new random numbers. In a sandbox
    that nobody has used yet, numbers are small. Nor is it in one of the blocks to be avoided."""

    def fits(pid: int) -> bool:
        return pid >= least and pid // _BLOCK not in avoided

    while True:
        pid = os.fork()
        if pid == 0:
            if fits(os.getpid()):
                return 0
            os._exit(0)
        if fits(pid):
            return pid
        os.waitpid(pid, 0)


def _arrange_descriptors(control: int, go: int) -> int:
    """Pipes as 0, 1 and 2, whose other ends nobody has; the control socket; where the word to go comes from."""
    beyond = installing.CONTROL + 1

    def out_of_the_way(descriptor: int) -> int:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, beyond)

    streams = [out_of_the_way(end) for end in (os.pipe()[0], os.pipe()[1], os.pipe()[1])]
    kept = out_of_the_way(go)
    os.dup2(out_of_the_way(control), installing.CONTROL, inheritable=True)
    for target, source in enumerate(streams):
        os.dup2(source, target, inheritable=True)
    os.closerange(3, installing.CONTROL)
    os.closerange(beyond, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    return kept
