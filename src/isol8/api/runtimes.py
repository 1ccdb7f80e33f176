"""GET /runtimes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8.api.problems import json_response
from isol8.api.route import DirectRoute, answers
from isol8.api.state import state_of
from isol8.wire.answer import to_json

router = APIRouter(route_class=DirectRoute)


@router.get("/runtimes", responses=answers("RuntimesAnswer", 401, 403), summary="The languages, and what installs them")
async def list_runtimes(request: Request) -> Response:
    """Every known one, whether it is installed or not."""
    runtimes = [
        {
            "name": language.name,
            "version": language.version,
            "ready": language.version is not None,
            "install": language.install,
        }
        for language in state_of(request).service.languages.all()
    ]
    return json_response(to_json({"runtimes": runtimes}))
