"""All sessions of all callers: found by name, counted, and ended when nobody has used them for a while.

A session belongs to the caller who made it; for any other caller it does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from isol8.engines.base import Engine
from isol8.errors import AtCapacity, Forbidden, NotFound
from isol8.model import Content, SandboxSpec
from isol8.service.session import Session
from isol8.tasks import Tasks

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
    `idle_s` ends, or none ever does when that is None."""

    def __init__(
        self, engine: Engine, tasks: Tasks, *, idle_s: float | None, max_per_caller: int, max_users: int
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._idle_s = idle_s
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
            session = self._sessions[key] = Session(name, self._engine, self._tasks)
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

    def part(self, caller: str, session: Session) -> None:
        """One user less. The last one leaves it idle, or takes it along when it never had a sandbox."""
        key = (caller, session.name)
        session.users -= 1
        session.touch()
        if session.users or self._sessions.get(key) is not session:
            return
        if session.unused:
            del self._sessions[key]
        elif self._idle_s is not None:
            self._expiries[key] = asyncio.get_running_loop().call_later(self._idle_s, self._remove, key)

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
