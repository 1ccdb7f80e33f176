"""POST /execute and POST /execute/stream."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8.api.answer import execution_answer
from isol8.api.auth import caller_of
from isol8.api.connection import read_json, while_there
from isol8.api.route import DirectRoute, answers, takes
from isol8.api.state import State, state_of
from isol8.api.streaming import EventStream
from isol8.model import Command
from isol8.service.executor import Collected, collect
from isol8.wire.request import ExecuteBody

router = APIRouter(route_class=DirectRoute)
_PROBLEMS = (400, 401, 403, 408, 413, 429, 500, 503)


@router.post(
    "/execute",
    responses=answers("ResultAnswer", *_PROBLEMS, 409, 507, others={500: "ExecutionProblem"}),
    openapi_extra=takes("ExecuteBody"),
    summary="Run a program and get all of its output",
)
async def execute(request: Request) -> Response:
    """In a fresh sandbox, or in the session that `sessionId` names. Ends early when the client goes away."""
    state, caller = state_of(request), caller_of(request)
    body = await _read(request, state)
    command = await state.service.command(body, caller, body.session_id)
    return await execution_answer(await while_there(request.receive, _run(state, command, caller, body.session_id)))


async def _run(state: State, command: Command, caller: str, session_id: str | None) -> Collected:
    async with aclosing(state.service.executor.stream(command, caller, session_id)) as events:
        return await collect(events)


@router.post(
    "/execute/stream",
    responses=answers("StreamEvent", *_PROBLEMS, media_type="text/event-stream"),
    openapi_extra=takes("ExecuteBody"),
    summary="Run a program and get its output as it is written",
)
async def execute_stream(request: Request) -> Response:
    """Always in a fresh sandbox: `sessionId` is ignored."""
    state, caller = state_of(request), caller_of(request)
    command = await state.service.command(await _read(request, state), caller, None)
    events = state.service.executor.stream(command, caller)
    try:
        await while_there(request.receive, anext(events))  # whatever refuses the request does so before Started
    except BaseException:
        await events.aclose()
        raise
    return EventStream(events, command.timeout_ms)


async def _read(request: Request, state: State) -> ExecuteBody:
    return await read_json(request, ExecuteBody, state.bodies)
