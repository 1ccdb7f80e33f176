"""isol8 without a server: sandboxes for the program that imports it.

    async with DockerIsol8(memory_limit="256m") as isol8:
        result = await isol8.execute("print('hello')")

The same parts as in a server, put together in another way: this process is what the API process is there, without HTTP,
and the supervisor is a process below it. Everything ends with `close`.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from isol8.config import Config, EngineName, config_of
from isol8.errors import EngineFailure, InvalidRequest
from isol8.model import Content, Event, ExecutionUsage, NetworkRequest, Outcome
from isol8.parts import Parts, beside
from isol8.runtimes.registry import RUNTIMES
from isol8.service.callers import caller_name
from isol8.service.executor import Collected, collect
from isol8.service.network import check_network
from isol8.service.service import Service
from isol8.service.templates import template_sets
from isol8.wire.checks import writable_path
from isol8.wire.request import ExecuteBody, parse
from isol8.wire.strict import wire_name

Mode = Literal["ephemeral", "persistent"]

_CALLER, _SESSION = caller_name(0), "instance"
_POOL = {"python": 1, "node": 0, "bash": 0, "bun": 0, "deno": 0}
_NOTHING = "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """What came of an execution. A program that fails is no exception: `outcome` and `exit_code` tell how it ended.

    `files` has the contents of `output_paths`, `file_errors` why some could not be read; `network_logs` and `timings`
    are there when the options ask for them.
    """

    stdout: str
    stderr: str
    exit_code: int
    outcome: Outcome
    truncated: bool
    execution_id: str
    container_id: str
    runtime: str
    started_at: datetime
    duration_ms: int
    usage: ExecutionUsage
    files: Mapping[str, Content]
    file_errors: Mapping[str, str]
    network_logs: tuple[NetworkRequest, ...] | None
    timings: Mapping[str, float] | None
    warnings: tuple[str, ...]


class Isol8:
    """Sandboxes of one engine: `start` it and `close` it, or use it as an asynchronous context manager.

    In the mode "ephemeral" every execution has a sandbox of its own, which is destroyed after it; in "persistent" all
    have the same one, with files, background processes and installed packages, until `close`. `settings` are those of
    a server's configuration file, and nothing else is read: neither that file nor ISOL8_ variables. `options` are
    those of an execution (network, memory_limit, cpu_limit, pids_limit, timeout_ms, sandbox_size, tmp_size, …), and the
    defaults of each. A process may have many instances of DockerIsol8, and one at a time of the others. Raises
    isol8.config.InvalidConfig.
    """

    engine: ClassVar[EngineName] = EngineName.NATIVE

    def __init__(self, mode: Mode = "ephemeral", *, settings: Mapping[str, Any] | None = None, **options: Any) -> None:
        if mode not in ("ephemeral", "persistent"):
            raise InvalidRequest('mode must be "ephemeral" or "persistent"')
        given = {"pool": _POOL, "cleanup": {"autoPrune": False}} | dict(settings or {})
        self._config: Config = config_of(given | {"engine": self.engine})
        self._session = _SESSION if mode == "persistent" else None
        self._options = options
        check_network(self._config)
        template_sets(self._config)
        self._body(_NOTHING, "python", {})  # what is wrong with the options is said now
        self._service: Service | None = None
        self._processes = ExitStack()
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Start the engine. Raises EngineFailure, which says what is missing. Nothing is left then."""
        if self._thread:
            raise EngineFailure("it has been started already")
        # Processes end with the thread that has started them; and looking for the engine takes a loop of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="isol8")
        try:
            parts: Parts = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._processes.enter_context, beside(self._config)
            )
            self._service = Service(self._config, parts.engine, RUNTIMES, parts.installed, parts.egress, parts.packages)
            await self._service.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Destroy every sandbox, and end the engine. Idempotent."""
        service, self._service = self._service, None
        try:
            if service:
                await service.close()
        finally:
            thread, self._thread = self._thread, None
            if thread:
                # Not to be left half way, whoever gives up waiting.
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(thread, self._processes.close))
                thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(self, code: str, runtime: str = "python", **request: Any) -> ExecutionResult:
        """Run a program to its end. `request` is what a request may have (`timeout_ms`, `env`, `stdin`, `files`,
        `output_paths`, `install_packages`, `setup_script`, `workdir`, …; files are text or bytes, by path), and
        `options` for this execution alone.

        Raises InvalidRequest, Forbidden, Conflict, AtCapacity, SandboxFull and EngineFailure.
        """
        async with aclosing(self.stream(code, runtime, **request)) as events:
            return _result(await collect(events))

    async def stream(self, code: str, runtime: str = "python", **request: Any) -> AsyncGenerator[Event, None]:
        """The same, as it happens: Started, then Output, then Finished with a Result (isol8.model). Closing it kills
        the program: who may leave the loop early puts it into `contextlib.aclosing`."""
        service = self._started()
        command = await service.command(self._body(code, runtime, request), _CALLER, self._session)
        async with aclosing(service.executor.stream(command, _CALLER, self._session)) as events:
            async for event in events:
                yield event

    async def put_file(self, path: str, content: str | bytes) -> None:
        """Write a file into the sandbox of a persistent instance, whole or not at all. Raises InvalidRequest,
        SandboxFull, EngineFailure."""
        name = await self._sandbox()
        raw = content.encode() if isinstance(content, str) else content
        await self._started().sessions.put(_CALLER, name, _path(path), raw)

    async def get_file(self, path: str) -> bytes:
        """Read a file from the sandbox of a persistent instance. Raises NotFound, InvalidRequest, EngineFailure."""
        name = await self._sandbox()
        return bytes(await self._started().sessions.get(_CALLER, name, _path(path)))

    async def _sandbox(self) -> str:
        """The session of a persistent instance, which has a sandbox then."""
        if self._session is None:
            raise InvalidRequest('files stay in a persistent instance alone: mode="persistent"; others take `files`')
        if self._started().sessions.spec(_CALLER, self._session) is None:
            await self.execute(_NOTHING)
        return self._session

    def _started(self) -> Service:
        if self._service is None:
            raise EngineFailure("it has not been started, or was closed: use `async with`")
        return self._service

    def _body(self, code: str, runtime: str, request: Mapping[str, Any]) -> ExecuteBody:
        """What a server would have been sent. Raises InvalidRequest."""
        own = dict(request)
        options = self._options | own.pop("options", {})
        if own.get("files"):
            own["files"] = {path: _content(value) for path, value in own["files"].items()}
        tree = {
            "request": {"code": code, "runtime": runtime} | _on_the_wire(own),
            "options": _on_the_wire(options),
        }
        try:
            return parse(ExecuteBody, json.dumps(tree).encode())
        except TypeError as error:
            raise InvalidRequest(f"The request cannot be written as JSON: {error}") from None


class NativeIsol8(Isol8):
    """Sandboxes of Linux namespaces, made by this machine's kernel alone."""


class DockerIsol8(Isol8):
    """Sandboxes that are containers of a Docker daemon, or of Podman."""

    engine = EngineName.DOCKER


class GVisorIsol8(Isol8):
    """Sandboxes under gVisor."""

    engine = EngineName.GVISOR


def _content(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _path(path: str) -> str:
    try:
        return writable_path(path)
    except ValueError as error:
        raise InvalidRequest(f"The path {error}") from None


def _on_the_wire(values: Mapping[str, Any]) -> dict[str, Any]:
    """With the names that the fields have in JSON."""
    return {wire_name(name): value for name, value in values.items() if value is not None}


def _result(collected: Collected) -> ExecutionResult:
    result = collected.result
    return ExecutionResult(
        stdout="".join(collected.stdout),
        stderr="".join(collected.stderr),
        exit_code=result.exit_code,
        outcome=result.outcome,
        truncated=result.truncated,
        execution_id=result.execution_id,
        container_id=result.sandbox_id,
        runtime=result.runtime,
        started_at=result.started_at,
        duration_ms=result.duration_ms,
        usage=result.usage,
        files=result.files,
        file_errors=result.file_errors,
        network_logs=result.network_log,
        timings=result.timings,
        warnings=result.warnings,
    )
