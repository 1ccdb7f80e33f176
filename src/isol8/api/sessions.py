"""GET /sessions and DELETE /session/:id."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8.api.auth import caller_of
from isol8.api.problems import json_response
from isol8.api.route import DirectRoute, answers, takes_parameters
from isol8.api.state import state_of
from isol8.wire.answer import timestamp, to_json

router = APIRouter(route_class=DirectRoute)
_OK = to_json({"ok": True})


@router.get("/sessions", responses=answers("SessionsAnswer", 401, 403), summary="The key's own sessions")
async def list_sessions(request: Request) -> Response:
    """Those of other keys do not exist for this one."""
    sessions = [
        {
            "id": session.id,
            "isActive": session.active,
            "createdAt": timestamp(session.created_at),
            "lastAccessedAt": timestamp(session.last_accessed_at),
        }
        for session in state_of(request).service.sessions.list(caller_of(request))
    ]
    return json_response(to_json({"sessions": sessions}))


@router.delete(
    "/session/{session_id}",
    responses=answers("Done", 401, 403, 500),
    openapi_extra=takes_parameters("path", "session_id"),
    summary="End a session",
)
async def delete_session(request: Request) -> Response:
    """Also one that never was. What runs in it is killed."""
    await state_of(request).service.sessions.delete(caller_of(request), request.path_params["session_id"])
    return json_response(_OK)
