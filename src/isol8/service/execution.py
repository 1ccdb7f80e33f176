"""One command in one leased sandbox: the only path that runs anything.

Order of things: limits and files go in, and with them every check that can still refuse the request; then Started; then
packages; then the set-up script; then the program, under its deadline; then the verdict, the files that are wanted
back, and Finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from isol8.egress.client import Egress, OpenGate
from isol8.egress.policy import PROXY_PORT
from isol8.engines.base import Engine
from isol8.engines.sandbox import TOO_LARGE, Exit
from isol8.errors import EngineFailure, InvalidRequest, Isol8Error, NotFound, SandboxFull, SetupFailed
from isol8.model import (
    Command,
    Content,
    EgressPolicy,
    Event,
    ExecutionUsage,
    Finished,
    Outcome,
    Output,
    Plan,
    Result,
    Started,
    Usage,
)
from isol8.service.deadline import Deadline
from isol8.service.installation import Installation
from isol8.service.lease import Lease
from isol8.service.metrics import Phases
from isol8.service.network import BUNDLE_PATH
from isol8.service.output import OutputFilter
from isol8.sizes import format_size
from isol8.tasks import Tasks

_KILLED = 137
_FILES_TIMEOUT_S = 120
_SETUP_OUTPUT_BYTES = 256 * 1024
_SETUP_LINES = 5
_SHORT_LOG = "networkLogs does not have every request"


class Execution:
    """`events` may be used once. `lease.running` says at any time whether a program may be running."""

    def __init__(
        self,
        name: str,
        command: Command,
        lease: Lease,
        engine: Engine,
        egress: Egress | None,
        tasks: Tasks,
        phases: Phases,
        installation: Installation | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._lease = lease
        self._sandbox = lease.sandbox
        self._engine = engine
        self._egress = egress
        self._gate: OpenGate | None = None
        self._tasks = tasks
        self._phases = phases
        self._installation = installation
        self._streams = {name: self._filter(command.output_bytes) for name in ("stdout", "stderr")}
        self._exit_code = _KILLED
        self._timed_out = False
        self._failure: EngineFailure | None = None

    def _filter(self, limit_bytes: int) -> OutputFilter:
        bound = self._command.egress.secrets if self._command.egress else ()
        return OutputFilter(limit_bytes, [*self._command.secrets.values(), *(secret.value for secret in bound)])

    async def events(self, plan: Plan, setup: Plan | None, setup_timeout_ms: int) -> AsyncGenerator[Event, None]:
        """Everything that happens. Closing it early leaves the program running: release the lease.

        Raises what refuses the request before Started, and SetupFailed or EngineFailure after it.
        """
        try:
            await self._prepare()
            yield Started(self._name, self._sandbox.id)
            if self._installation and self._installation.needed:
                async with aclosing(self._installation.events(self._sandbox)) as lines:
                    async for line in lines:
                        yield line
            if self._installation:
                plan = self._installation.adapt(plan, self._sandbox)
            if setup:
                await self._set_up(setup, setup_timeout_ms)
            before = await self._engine.usage(self._sandbox)
            self._phases.end("checkout")
            started_at, clock = datetime.now(UTC), time.perf_counter()
            async with aclosing(self._run(plan)) as pieces:
                async for piece in pieces:
                    yield piece
            wall_ms = round((time.perf_counter() - clock) * 1000)
            self._phases.end("run")
            after = await self._usage_or(before)
            outcome = self._judge(before, after)
            for piece in self._last_words():
                yield piece
            usage = ExecutionUsage(
                cpu_ms=max(0, after.cpu_ms - before.cpu_ms), wall_ms=wall_ms, peak_memory_bytes=after.peak_memory_bytes
            )
            yield Finished(await self._result(outcome, started_at, usage))
        finally:
            if self._gate:
                self._gate.abandon()

    async def _prepare(self) -> None:
        """Give the sandbox the command's limits and files."""
        sandbox, command = self._sandbox, self._command
        if sandbox.spec.limits != command.limits:
            await self._engine.limit(sandbox, command.limits)
        if command.egress:
            await self._open_gate(command.egress)
        if not command.files:
            return
        try:
            async with asyncio.timeout(_FILES_TIMEOUT_S):
                for path, content in command.files.items():
                    await sandbox.put(path, content)
        except TimeoutError as error:
            raise EngineFailure("the sandbox does not take its files") from error
        except EngineFailure as error:
            self._lease.check()
            if (await self._engine.usage(sandbox)).oom_kills:
                raise SandboxFull("The files do not fit into the sandbox's memory") from error
            raise

    async def _open_gate(self, policy: EgressPolicy) -> None:
        """Give the sandbox its way out. It is closed when the execution is over, whoever still runs in the sandbox."""
        if self._egress is None:
            raise EngineFailure("this server has no proxy")
        listener = await self._engine.listen(self._sandbox, PROXY_PORT)
        self._gate = await self._egress.open(listener, policy)
        if self._gate.bundle:
            await self._sandbox.put(BUNDLE_PATH, self._gate.bundle)

    async def _set_up(self, plan: Plan, timeout_ms: int) -> None:
        stderr = self._filter(_SETUP_OUTPUT_BYTES)
        said, code = "", _KILLED
        self._lease.running = True
        with Deadline(timeout_ms, self._sandbox, self._engine, self._tasks, once=self._lease.once) as deadline:
            try:
                async for item in self._sandbox.run(plan, stdin=b"", output_bytes=_SETUP_OUTPUT_BYTES):
                    if isinstance(item, Exit):
                        code = item.code
                    elif item.stream == "stderr":
                        said += stderr.feed(item.data)
            except EngineFailure:
                self._lease.check()
                if not deadline.passed:
                    raise
        self._lease.running = False
        if deadline.passed:
            raise SetupFailed(f"The set-up script timed out after {timeout_ms} ms")
        if code:
            raise SetupFailed(_setup_failure(code, said + stderr.finish()))

    async def _run(self, plan: Plan) -> AsyncGenerator[Output, None]:
        """Run the program to its end, whatever that is."""
        command, sandbox = self._command, self._sandbox
        self._lease.running = True
        with Deadline(command.timeout_ms, sandbox, self._engine, self._tasks, once=self._lease.once) as deadline:
            try:
                running = sandbox.run(
                    plan, stdin=command.stdin, output_bytes=command.output_bytes, last=self._lease.once
                )
                async with aclosing(running) as items:
                    async for item in items:
                        if isinstance(item, Exit):
                            self._exit_code = item.code
                        elif text := self._streams[item.stream].feed(item.data):
                            yield Output(item.stream, text)
            except EngineFailure as error:
                self._failure = error  # may be memory, time or deletion: `_judge` tells
            except Isol8Error:
                self._lease.running = False
                raise
        self._lease.running = False
        # A program that was just in time may have ended by itself after all.
        self._timed_out = deadline.passed and self._exit_code == _KILLED

    async def _usage_or(self, before: Usage) -> Usage:
        """What the sandbox has used; what it had before, when there is nothing left to ask."""
        try:
            return await self._engine.usage(self._sandbox)
        except EngineFailure:
            self._lease.check()
            if self._failure is None:
                raise
            return before

    def _judge(self, before: Usage, after: Usage) -> Outcome:
        """How it ended. Raises Conflict when its session was deleted, and EngineFailure when we failed."""
        if self._timed_out:
            return Outcome.TIMED_OUT
        if after.oom_kills > before.oom_kills:
            return Outcome.OUT_OF_MEMORY
        if self._failure:
            self._lease.check()
            raise self._failure
        return Outcome.COMPLETED

    def _last_words(self) -> list[Output]:
        """What was held back of the output, and the line that says that time was up."""
        pieces = [Output(name, text) for name, stream in self._streams.items() if (text := stream.finish())]
        if self._timed_out:
            newline = "" if self._streams["stderr"].at_line_start else "\n"
            pieces.append(Output("stderr", f"{newline}Execution timed out after {self._command.timeout_ms} ms\n"))
        return pieces

    async def _result(self, outcome: Outcome, started_at: datetime, usage: ExecutionUsage) -> Result:
        log = await self._gate.close() if self._gate else None
        files, errors = await self._collect_files()
        warnings = self._command.warnings + self._lease.warnings
        wanted = self._command.egress is not None and self._command.egress.log
        if log and wanted and not log.complete:
            warnings = (*warnings, _SHORT_LOG)
        return Result(
            execution_id=self._name,
            sandbox_id=self._sandbox.id,
            runtime=self._command.runtime,
            outcome=outcome,
            exit_code=self._exit_code if outcome is Outcome.COMPLETED else _KILLED,
            started_at=started_at,
            duration_ms=usage.wall_ms,
            truncated=any(stream.truncated for stream in self._streams.values()),
            usage=usage,
            files=files,
            file_errors=errors,
            network_log=log.entries if log and wanted else None,
            timings=self._phases.ms if self._command.timings else None,
            warnings=warnings,
        )

    async def _collect_files(self) -> tuple[dict[str, Content], dict[str, str]]:
        """The files that are wanted back, and why some could not be read. Together they are no more than the sandbox
        can hold: files with holes, and names of one file, are larger than what they take."""
        files: dict[str, Content] = {}
        errors: dict[str, str] = {}
        if not self._command.output_paths:
            return files, errors
        limits, most = self._command.limits, self._command.output_files_bytes
        held = min(limits.sandbox_bytes + limits.tmp_bytes, limits.memory_bytes)
        left = held if most is None else min(held, most)
        whose = "the sandbox can hold" if left == held else "this server gives back (policy.maxOutputFilesSize)"
        bound = f"is too large: all files together may be {format_size(left)}, which is what {whose}"
        for path in self._command.output_paths:
            try:
                async with asyncio.timeout(_FILES_TIMEOUT_S):
                    files[path] = await self._sandbox.get(path, left)
                left -= len(files[path])
            except (NotFound, InvalidRequest) as error:
                errors[path] = f"{path} {bound}" if error.code == TOO_LARGE else error.message
            except (EngineFailure, TimeoutError):
                errors[path] = f"{path} could not be read: the sandbox has ended"
        return files, errors


def _setup_failure(code: int, said: str) -> str:
    """One line, with the last of what the script complained about."""
    lines = [line.strip() for line in said.splitlines() if line.strip()][-_SETUP_LINES:]
    return f"The set-up script failed with exit code {code}" + (f": {'; '.join(lines)}" if lines else "")
