"""One session: a sandbox that its caller has named, and that lives across executions.

Executions take turns in order of arrival. The first one makes the sandbox; the others, of whatever runtime, find it
there. Files go in and out at any time, also while a program runs. A sandbox that died is not replaced in silence: the
next execution gets a new one and a warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import Conflict, EngineFailure, NotFound, SandboxFull
from isol8.model import Content, SandboxSpec
from isol8.service.lease import Lease
from isol8.service.notes import SessionNote
from isol8.tasks import Tasks

_NEW_SANDBOX = "The session's sandbox had ended; this is a new one, without its files and processes"
_FILE_TIMEOUT_S = 120

Transferred = TypeVar("Transferred")


class Session:
    """`users` counts those who execute, wait or move files: a session without any is idle. `owner` is the fingerprint
    of the key that makes it."""

    def __init__(self, name: str, owner: str, engine: Engine, tasks: Tasks) -> None:
        self.name = name
        self.users = 0
        self.created_at = self.last_accessed_at = datetime.now(UTC)
        self.noted_busy = False
        self._owner = owner
        self._engine = engine
        self._tasks = tasks
        self._turn = asyncio.Lock()
        self._known = asyncio.Event()  # whether there is a sandbox now: set while nobody is about to make one
        self._sandbox: Sandbox | None = None
        self._lost = False
        self._deleted = False

    @classmethod
    def again(cls, note: SessionNote, sandbox: Sandbox, engine: Engine, tasks: Tasks) -> Session:
        """One that a crashed server has left."""
        session = cls(note.name, note.owner, engine, tasks)
        session.created_at = note.created_at
        session.last_accessed_at = session.last_accessed_at if note.busy else note.last_accessed_at
        session._sandbox = sandbox
        session._known.set()
        return session

    def note_down(self) -> None:
        """Note down what is needed to find it again after a crash, in the background; where the engine can."""
        if self.spec and self.spec.kept and self.sandbox:
            self.noted_busy = self.users > 0
            note = SessionNote(self.name, self._owner, self.created_at, self.last_accessed_at, self.noted_busy)
            self._tasks.start(self._engine.keep(self.sandbox, note.to_json()))

    @property
    def active(self) -> bool:
        """Whether something is being executed."""
        return self._turn.locked()

    @property
    def unused(self) -> bool:
        """Whether there is nothing to it: it never had a sandbox."""
        return self._sandbox is None and not self._lost

    @property
    def sandbox(self) -> Sandbox | None:
        """Its live sandbox."""
        return self._sandbox if self._sandbox and not self._sandbox.dead else None

    @property
    def spec(self) -> SandboxSpec | None:
        """What its live sandbox has now."""
        return self.sandbox.spec if self.sandbox else None

    def touch(self) -> None:
        """It is used now."""
        self.last_accessed_at = datetime.now(UTC)

    def check(self) -> None:
        """Raises Conflict when the session was deleted."""
        if self._deleted:
            raise Conflict("The session was deleted while the execution was in progress", code="session_deleted")

    async def wait_turn(self) -> None:
        """Wait until it is the caller's turn, which `lease` or `end_turn` ends. Raises Conflict when deleted."""
        await self._turn.acquire()
        if self.sandbox is None:
            self._known.clear()
        if self._deleted:
            self.end_turn()
            self.check()

    def end_turn(self) -> None:
        """Let the next one in line execute."""
        self._known.set()
        self._turn.release()

    async def lease(self, spec: SandboxSpec, make: Callable[[SandboxSpec], Awaitable[Sandbox]]) -> Lease:
        """The session's sandbox, made if there is none, for the one whose turn it is. Releasing it ends the turn.

        Raises Conflict when it has another network or image, or was deleted, EngineFailure when it cannot be made.
        """
        self._drop_dead()
        warnings = (_NEW_SANDBOX,) if self._lost else ()
        if self._sandbox is None:
            made = await make(spec)
            if self._deleted:
                self._tasks.start(self._engine.destroy(made))
                self.check()
            self._sandbox, self._lost = made, False
            self._known.set()
            self.note_down()
        elif self._sandbox.spec.network is not spec.network:
            raise Conflict(
                f"The session's network is {self._sandbox.spec.network}; it cannot change while the session lives"
            )
        elif self._sandbox.spec.image != spec.image:
            raise Conflict("The session's image cannot change while the session lives")
        return Lease(self._sandbox, self._give_back, self.check, warnings)

    def _drop_dead(self) -> None:
        if self._sandbox and self._sandbox.dead:
            self._tasks.start(self._engine.destroy(self._sandbox))
            self._sandbox, self._lost = None, True

    def _give_back(self, running: bool) -> None:
        self._drop_dead()
        if running and self._sandbox:
            self._tasks.start(self._clear(self._sandbox))
        else:
            self.end_turn()

    async def _clear(self, sandbox: Sandbox) -> None:
        """End what an execution that was given up has left running; only then is it the next one's turn."""
        try:
            await sandbox.kill()
        except EngineFailure:
            sandbox.disconnect()  # it does not answer, so there is nothing to be kept
            self._drop_dead()
        finally:
            self.end_turn()

    async def put(self, path: str, content: Content) -> None:
        """Write a file, whole or not at all. Raises NotFound (no sandbox), InvalidRequest, SandboxFull."""
        sandbox = await self._live()
        # Files are memory: an attempt could end with the kernel's killing the runner for it.
        if len(content) > self._most(sandbox):
            raise SandboxFull(f"No room in the sandbox for {path}")
        await self._bounded(sandbox.put(path, content))

    async def get(self, path: str) -> Content:
        """Read a file. Raises NotFound (no sandbox, no file), InvalidRequest."""
        sandbox = await self._live()
        return await self._bounded(sandbox.get(path, self._most(sandbox)))

    def _most(self, sandbox: Sandbox) -> int:
        """The size that no file can be above."""
        limits = sandbox.spec.limits
        return min(max(limits.sandbox_bytes, limits.tmp_bytes), limits.memory_bytes)

    async def _live(self) -> Sandbox:
        if self._sandbox is None:
            await self._known.wait()  # whoever has the turn is making it, and then goes on to execute
        if self._sandbox is None or self._sandbox.dead or self._deleted:
            raise NotFound("Session not found")
        return self._sandbox

    async def _bounded(self, transfer: Awaitable[Transferred]) -> Transferred:
        """A transfer cannot go on for ever, whatever the program does to the file."""
        try:
            async with asyncio.timeout(_FILE_TIMEOUT_S):
                return await transfer
        except TimeoutError as error:
            raise EngineFailure("the sandbox does not answer") from error
        except EngineFailure as error:
            if self._deleted:
                raise NotFound("Session not found") from error
            raise

    async def delete(self) -> None:
        """End it and whatever runs in it; returns when its sandbox is gone."""
        self._deleted = True
        if self._sandbox:
            await self._engine.destroy(self._sandbox)
