"""GET /metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from isol8.api.route import DirectRoute, answers
from isol8.api.state import state_of
from isol8.service.metrics import CONTENT_TYPE

router = APIRouter(route_class=DirectRoute)
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Success.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/metrics", responses=answers("Problem", 401, 403) | _TEXT, summary="Counts and times, for Prometheus")
async def metrics(request: Request) -> Response:
    """In the text format."""
    return Response(state_of(request).service.metrics.text(), media_type=CONTENT_TYPE)
