"""Errors as HTTP: the one place that knows which status an error has.

Every answer that is not a success is `{"error": "<one sentence>"}`, with a `code` for machines where there is one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isol8 import errors
from isol8.model import Result
from isol8.wire.answer import to_json

_LOG = logging.getLogger("isol8.api")
_STATUSES: tuple[tuple[type[errors.Isol8Error], int], ...] = (
    (errors.InvalidRequest, 400),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.SandboxFull, 507),
    (errors.RateLimited, 429),
    (errors.AtCapacity, 503),
    (errors.EngineFailure, 500),
)
OUT_OF_MEMORY = "Execution failed: container OOM killed"


class BodyTooLarge(errors.Isol8Error):
    """More was sent than the server takes."""


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response that is JSON already."""
    return Response(body, status, headers, media_type="application/json")


def problem(status: int, sentence: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is not a success."""
    body = {"error": sentence} if code is None else {"error": sentence, "code": code}
    return json_response(to_json(body), status, headers)


def sentence_for(error: errors.Isol8Error) -> str:
    """What a caller is told. Of trouble with the engine it says that the execution failed; a request's own set-up
    step says so itself."""
    if isinstance(error, errors.EngineFailure) and not isinstance(error, errors.SetupFailed):
        return f"Execution failed: {error.message}"
    return error.message


def out_of_memory(result: Result) -> dict[str, str]:
    """The answer when the kernel killed the program for memory, without its output."""
    return {"error": OUT_OF_MEMORY, "code": "out_of_memory", "executionId": result.execution_id}


def _answer_to(error: Exception, scope: Scope) -> Response:
    """The answer to what was raised instead of one; what nobody foresaw becomes a generic sentence with an id, which
    the log has too, with the cause."""
    if isinstance(error, BodyTooLarge):
        return problem(413, error.message)
    if isinstance(error, errors.Isol8Error):
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.AtCapacity) else None
        return problem(status, sentence_for(error), error.code, headers)
    if isinstance(error, HTTPException):  # the router's: no such route, or not with this method
        sentences = {404: "There is no such route", 405: f"This route does not take {scope['method'][:20]}"}
        return problem(error.status_code, sentences.get(error.status_code, error.detail), headers=error.headers)
    if isinstance(error, ClientGone):
        return Response(status_code=499)  # nobody reads this
    return problem(500, log_bug(), "internal_error")


class Answering:
    """ASGI: whatever is raised instead of an answer becomes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        began = False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal began
            began = True
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if began:
                log_bug()
                raise  # half an answer cannot become another one: the server closes the connection
            await _answer_to(error, scope)(scope, receive, send)


def log_bug() -> str:
    """Log the exception that is being handled, and give the sentence that may be shown."""
    incident = uuid.uuid4().hex[:12]
    _LOG.exception("internal error %s", incident)
    return f"Internal error {incident}; the server's log has more about it"
