"""GET /health."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8 import __version__
from isol8.api.problems import json_response
from isol8.api.route import DirectRoute, answers
from isol8.wire.answer import to_json

router = APIRouter(route_class=DirectRoute)
_HEALTHY = to_json({"status": "ok", "version": __version__})


@router.get("/health", responses=answers("Health"), summary="Whether the server is up", openapi_extra={"security": []})
async def health(_: Request) -> Response:
    """Needs no key."""
    return json_response(_HEALTHY)
