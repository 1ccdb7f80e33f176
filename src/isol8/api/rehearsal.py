"""What the web framework imports late, imported early: for a process that is about to lose the right to read it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import Message, Scope

_HTTP: Scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "headers": []}


async def rehearse(app: FastAPI) -> None:
    """Answer a request before there are any, and start and end an application that has nothing to start."""
    await app(_HTTP, _Script({"type": "http.request", "body": b""}).receive, _ignore)
    lifespan = _Script({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await FastAPI()({"type": "lifespan", "state": {}}, lifespan.receive, _ignore)


class _Script:
    """A client that says what it was told to say."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)

    async def receive(self) -> Message:
        """See ASGI."""
        return self._messages.pop(0)


async def _ignore(message: Message) -> None:
    """See ASGI: whatever is answered."""
