"""POST /file and GET /file: the files of a session."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8.api.answer import file_answer
from isol8.api.auth import caller_of
from isol8.api.connection import read_json, while_there
from isol8.api.problems import json_response
from isol8.api.route import DirectRoute, answers, takes, takes_parameters
from isol8.api.state import state_of
from isol8.errors import InvalidRequest
from isol8.wire.answer import to_json
from isol8.wire.request import DownloadQuery, UploadBody, parse_values

router = APIRouter(route_class=DirectRoute)
_OK = to_json({"ok": True})


@router.post(
    "/file",
    responses=answers("Done", 400, 401, 403, 404, 408, 413, 500, 507),
    openapi_extra=takes("UploadBody"),
    summary="Write a file into a session",
)
async def upload(request: Request) -> Response:
    """Whole or not at all."""
    state = state_of(request)
    body = await read_json(request, UploadBody, state.bodies)
    await state.service.sessions.put(caller_of(request), body.session_id, body.path, body.content)
    return json_response(_OK)


@router.get(
    "/file",
    responses=answers("Download", 400, 401, 403, 404, 500),
    openapi_extra=takes_parameters("query", "sessionId", "path"),
    summary="Read a file of a session",
)
async def download(request: Request) -> Response:
    """As base64."""
    given = {name: request.query_params.get(name, "") for name in ("sessionId", "path")}
    if not all(given.values()):
        raise InvalidRequest("Missing sessionId or path")
    query = parse_values(DownloadQuery, given)
    reading = state_of(request).service.sessions.get(caller_of(request), query.session_id, query.path)
    return file_answer(await while_there(request.receive, reading))
