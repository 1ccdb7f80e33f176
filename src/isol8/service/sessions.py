"""All sessions of all callers: found by name, counted, and ended when nobody has used them for a while.

A session belongs to the caller who made it; for any other caller it does not exist. Where the engine can, sessions are
noted down, so that they are there again when the server has crashed: once when they come into use, and once when they
have not been used for a moment, so that a session in use costs nothing for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import AtCapacity, EngineFailure, Forbidden, InvalidRequest, NotFound
from isol8.model import Content, SandboxSpec
from isol8.service.notes import SessionNote
from isol8.service.session import Session
from isol8.tasks import Tasks

_LOG = logging.getLogger("isol8.sessions")
_LONGEST_CALM_S = 5.0  # after this long without use a session is noted down as idle; or after a tenth of its idle time
_ADOPTIONS = 8  # at once

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as its caller may see it. `active`: something is being executed."""

    id: str
    active: bool
    created_at: datetime
    last_accessed_at: datetime


class Sessions:
    """`close` ends them all. `max_users` bounds how many use or wait for one session at once; one that is idle for
    `idle_s` ends, or none ever does when that is None. `owners` are the callers' fingerprints."""

    def __init__(
        self,
        engine: Engine,
        tasks: Tasks,
        *,
        idle_s: float | None,
        max_per_caller: int,
        max_users: int,
        owners: Mapping[str, str],
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._owners = owners
        self._idle_s = idle_s
        self._calm_s = _LONGEST_CALM_S if idle_s is None else min(_LONGEST_CALM_S, idle_s / 10)
        self._max_per_caller = max_per_caller
        self._max_users = max_users
        self._sessions: dict[_Key, Session] = {}
        self._expiries: dict[_Key, asyncio.TimerHandle] = {}

    def spec(self, caller: str, name: str) -> SandboxSpec | None:
        """What the session's live sandbox has now; None when there is none."""
        session = self._sessions.get((caller, name))
        return session.spec if session else None

    @property
    def count(self) -> int:
        """How many there are, of all callers."""
        return len(self._sessions)

    def list(self, caller: str) -> list[SessionInfo]:
        """The caller's own."""
        return [
            SessionInfo(session.name, session.active, session.created_at, session.last_accessed_at)
            for (owner, _), session in self._sessions.items()
            if owner == caller
        ]

    def join(self, caller: str, name: str) -> Session:
        """The session, made if there is none, as one of its users; `part` from it.

        Raises AtCapacity when it has too many users, Forbidden when the caller has too many sessions.
        """
        key = (caller, name)
        session = self._sessions.get(key)
        if session is None:
            if sum(owner == caller for owner, _ in self._sessions) >= self._max_per_caller:
                raise Forbidden(f"This key has {self._max_per_caller} sessions already (policy.maxSessionsPerKey)")
            session = self._sessions[key] = Session(name, self._owners.get(caller, ""), self._engine, self._tasks)
        elif session.users >= self._max_users:
            raise AtCapacity("Too many requests wait for this session; try again")
        self._enter(key, session)
        return session

    def _enter(self, key: _Key, session: Session) -> None:
        session.users += 1
        session.touch()
        expiry = self._expiries.pop(key, None)
        if expiry:
            expiry.cancel()
        if not session.noted_busy:
            session.note_down()

    def part(self, caller: str, session: Session) -> None:
        """One user less. The last one leaves it idle, or takes it along when it never had a sandbox."""
        key = (caller, session.name)
        session.users -= 1
        session.touch()
        if session.users or self._sessions.get(key) is not session:
            return
        if session.unused:
            del self._sessions[key]
        else:
            self._expiries[key] = asyncio.get_running_loop().call_later(self._calm_s, self._calmed, key)

    def _calmed(self, key: _Key) -> None:
        """It has not been used for a moment."""
        self._sessions[key].note_down()
        self._expire(key, self._calm_s)

    def _expire(self, key: _Key, idle_s: float) -> None:
        """Have it end when its time is over, of which some has passed."""
        self._expiries.pop(key, None)
        if self._idle_s is not None:
            left_s = max(0.0, self._idle_s - idle_s)
            self._expiries[key] = asyncio.get_running_loop().call_later(left_s, self._remove, key)

    async def restore(self) -> None:
        """Find again what a crashed server has left. Before the first execution. Raises EngineFailure."""
        turns = asyncio.Semaphore(_ADOPTIONS)

        async def restore(sandbox_id: str) -> None:
            async with turns:
                await self._restore(sandbox_id)

        await asyncio.gather(*(restore(sandbox_id) for sandbox_id in await self._engine.kept()))

    async def _restore(self, sandbox_id: str) -> None:
        try:
            sandbox, tree = await self._engine.adopt(sandbox_id)
        except EngineFailure as error:
            _LOG.warning("a session that a crashed server had left is lost (%s): %s", sandbox_id, error.message)
            return
        problem = self._admit(sandbox, tree)
        if problem:
            _LOG.info("a session that a crashed server had left is ended (%s): %s", sandbox_id, problem)
            self._tasks.start(self._engine.destroy(sandbox))

    def _admit(self, sandbox: Sandbox, tree: dict[str, object]) -> str:
        """Make a session of a sandbox that was left; or why not."""
        try:
            note = SessionNote.from_json(tree)
        except InvalidRequest as error:
            return error.message
        caller = next((name for name, owner in self._owners.items() if owner == note.owner), None)
        if caller is None:
            return "the key that made it is none of this server's"
        key, idle_s = (caller, note.name), note.idle_s()
        if self._idle_s is not None and idle_s >= self._idle_s:
            return "it had not been used for too long"
        if key in self._sessions:
            return "there is another one of its name"
        self._sessions[key] = session = Session.again(note, sandbox, self._engine, self._tasks)
        session.note_down()
        self._expire(key, idle_s)
        _LOG.info("the session %s of %s is there again", note.name, caller)
        return ""

    def _remove(self, key: _Key) -> asyncio.Task[None] | None:
        session = self._sessions.pop(key, None)
        expiry = self._expiries.pop(key, None)
        if expiry:
            expiry.cancel()
        return self._tasks.start(session.delete()) if session else None

    async def delete(self, caller: str, name: str) -> None:
        """End a session and whatever runs in it; returns when its sandbox is gone. There may be none."""
        deleting = self._remove((caller, name))
        if deleting:
            await asyncio.shield(deleting)

    async def put(self, caller: str, name: str, path: str, content: Content) -> None:
        """Write a file, whole or not at all. Raises NotFound, InvalidRequest, SandboxFull."""
        with self._existing(caller, name) as session:
            await session.put(path, content)

    async def get(self, caller: str, name: str, path: str) -> Content:
        """Read a file. Raises NotFound, InvalidRequest."""
        with self._existing(caller, name) as session:
            return await session.get(path)

    @contextmanager
    def _existing(self, caller: str, name: str) -> Iterator[Session]:
        session = self._sessions.get((caller, name))
        if session is None:
            raise NotFound("Session not found")
        self._enter((caller, name), session)
        try:
            yield session
        finally:
            self.part(caller, session)

    async def close(self) -> None:
        """End every session."""
        for key in list(self._sessions):
            self._remove(key)
        await self._tasks.finish()
