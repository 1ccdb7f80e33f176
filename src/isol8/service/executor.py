"""Where an execution happens: in this process's engine.

`stream` is the one way to execute; `collect` makes a single result of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import EngineFailure, Isol8Error
from isol8.model import Command, Event, Finished, Installing, Network, Output, Result, SandboxSpec, Started
from isol8.service.admission import Admission
from isol8.service.audit import AuditEntry
from isol8.service.execution import Execution
from isol8.service.installation import Installation, Installer
from isol8.service.languages import Languages
from isol8.service.lease import Lease
from isol8.service.metrics import Metrics, Phases
from isol8.service.readiness import Readiness
from isol8.service.sessions import Sessions
from isol8.service.templates import Templates
from isol8.tasks import Tasks

_ANSWER_S = 0.002  # what an answer takes to be on its way; what is torn down meanwhile takes the processor from it


class Executor:
    """Runs commands. What it starts in the background goes to `tasks`, which its maker finishes."""

    def __init__(
        self,
        engine: Engine,
        egress: Egress | None,
        languages: Languages,
        templates: Templates,
        admission: Admission,
        sessions: Sessions,
        tasks: Tasks,
        setup_timeout_ms: int,
        installer: Installer,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._egress = egress
        self._languages = languages
        self._templates = templates
        self._admission = admission
        self._sessions = sessions
        self._tasks = tasks
        self._setup_timeout_ms = setup_timeout_ms
        self._installer = installer
        self._readiness = Readiness(admission)
        self._metrics = metrics

    async def stream(self, command: Command, caller: str, session_id: str | None = None) -> AsyncGenerator[Event, None]:
        """Started, then what the program writes, then Finished; in a fresh sandbox, or in the caller's session.

        Closing it, or cancelling whoever waits for its next event, kills the program; nothing is waited for then.
        Raises InvalidRequest, Conflict, AtCapacity, RateLimited, SandboxFull and EngineFailure before Started;
        SetupFailed, EngineFailure, and Conflict (the session was deleted) after it.
        """
        plan, setup = self._languages.plan(command), self._languages.setup_plan(command)
        spec = self._languages.spec(command)
        self._admission.charge(caller)
        entry = AuditEntry(name := str(uuid.uuid4()), command, caller, session_id)
        installation = self._installer.installation(command, caller)
        phases = Phases()
        try:
            lease = await self._lease(spec, installation, caller, session_id, phases)
            try:
                execution = Execution(
                    name, command, lease, self._engine, self._egress, self._tasks, phases, installation
                )
                async with aclosing(execution.events(plan, setup, self._setup_timeout_ms)) as events:
                    async for event in events:
                        if isinstance(event, Finished):
                            entry.finished(event.result)
                        yield event
            finally:
                lease.release()
        except Isol8Error as error:
            entry.refused(error)
            raise
        finally:
            installation.close()
            entry.write()
            self._metrics.ended(command.runtime, entry.outcome, phases)

    async def _lease(
        self, spec: SandboxSpec, installation: Installation, caller: str, session_id: str | None, phases: Phases
    ) -> Lease:
        """A place among those that run, and a sandbox; both go back with the lease."""
        if session_id is not None:
            with ExitStack() as undo:
                lease = await self._lease_session(spec, installation, caller, session_id, phases, undo)
                return lease.and_then(undo.pop_all().close)
        await self._admission.enter(caller)
        try:
            phases.end("queue")
            sandbox = await self._make(await installation.prepare(spec, None))
        except BaseException:
            self._admission.leave()
            raise
        return Lease(sandbox, lambda running: self._discard(sandbox), once=True).and_then(self._admission.leave)

    async def _lease_session(
        self,
        spec: SandboxSpec,
        installation: Installation,
        caller: str,
        session_id: str,
        phases: Phases,
        undo: ExitStack,
    ) -> Lease:
        """The session's turn is waited for before the place: a busy session does not keep others from running."""
        session = self._sessions.join(caller, session_id)
        undo.callback(self._sessions.part, caller, session)
        undo.callback(self._readiness.later, session)
        await session.wait_turn()
        with ExitStack() as turn:
            turn.callback(session.end_turn)
            await self._admission.enter(caller)
            undo.callback(self._admission.leave)
            phases.end("queue")
            spec = await installation.prepare(spec, session.sandbox)
            # A way out ends with the server: a session that came back without would only look like the one that was.
            spec = dataclasses.replace(spec, kept=spec.network is not Network.FILTERED)
            lease = await session.lease(spec, self._make)
            turn.pop_all()  # the lease ends it
        return lease

    def _discard(self, sandbox: Sandbox) -> None:
        self._tasks.start(self._tear_down(sandbox))

    async def _tear_down(self, sandbox: Sandbox) -> None:
        await asyncio.sleep(_ANSWER_S)
        began = time.perf_counter()
        await self._engine.destroy(sandbox)
        self._metrics.torn_down(time.perf_counter() - began)

    async def _make(self, spec: SandboxSpec) -> Sandbox:
        return await self._templates.acquire(spec)


@dataclass(frozen=True, slots=True)
class Collected:
    """A result, and the output that belongs to it, in pieces: joined at once, what is large holds up the server."""

    result: Result
    stdout: list[str]
    stderr: list[str]


async def collect(events: AsyncIterator[Event]) -> Collected:
    """All that comes of a stream. Raises what the stream raises."""
    pieces: dict[str, list[str]] = {"stdout": [], "stderr": []}
    result: Result | None = None
    async for event in events:  # to its very end: to close it before takes longer
        if isinstance(event, Output):
            pieces[event.stream].append(event.text)
        elif isinstance(event, Finished):
            result = event.result
        else:
            assert isinstance(event, Started | Installing)
    if result is None:
        raise EngineFailure("the execution ended without a result")
    return Collected(result, pieces["stdout"], pieces["stderr"])
