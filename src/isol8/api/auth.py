"""Who is calling: decided before anything else is looked at."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from isol8.api.problems import problem
from isol8.service.callers import caller_name

_CALLER = "isol8.caller"
_OPEN = ("/health", {"GET", "HEAD"})


class Authentication:
    """ASGI: lets requests through that carry one of `keys`, and notes which; GET /health needs none.

    Keys are compared by their digests, all of them each time, so that neither what is wrong with a key nor which key
    is right shows in how long it takes.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and not self._is_open(scope):
            key = _bearer(scope)
            if key is None:
                answer = problem(401, "Missing Authorization header", headers={"WWW-Authenticate": "Bearer"})
                await answer(scope, receive, send)
                return
            caller = self._identify(key)
            if caller is None:
                await problem(403, "Invalid API key")(scope, receive, send)
                return
            scope[_CALLER] = caller
        await self._app(scope, receive, send)

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        path, methods = _OPEN
        return bool(scope["path"] == path and scope["method"] in methods)

    def _identify(self, key: bytes) -> str | None:
        digest = hashlib.sha256(key).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return caller_name(matches.index(True)) if any(matches) else None


def _bearer(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() or None if scheme.lower() == b"bearer" else None
    return None


def caller_of(request: Request) -> str:
    """The name of the key that the request came with, such as `key1`; never the key itself."""
    caller: str = request.scope[_CALLER]
    return caller
