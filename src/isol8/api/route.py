"""How a resource is put on the router: called with the request alone, described by schemas of the wire's types.

The framework would read, validate and write bodies itself, at a cost that is many times that of the rest of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_PROBLEMS = {
    400: "The request cannot be carried out as written.",
    401: "The Authorization header is missing.",
    403: "The key is wrong, or the server's policy does not allow it.",
    404: "There is no such thing for this key.",
    408: "The body came too slowly.",
    409: "A live session cannot be changed this way, or was deleted.",
    413: "The body is too large.",
    429: "This key is over its rate.",
    500: "The execution failed.",
    503: "The server is at capacity.",
    507: "The sandbox is full.",
}


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See APIRoute. Raises HTTPException for a method that is another route's, or none's."""
        methods = self.methods or set()
        if scope["method"] not in methods:
            raise HTTPException(405, headers={"Allow": ", ".join(methods)})
        response: Response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _content(schema: str, media_type: str = "application/json") -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    if media_type == "application/json":
        return {media_type: {"schema": reference}}
    # One server-sent event, whose data line is JSON.
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": reference}
    return {media_type: {"schema": {"type": "object", "properties": {"data": data}, "required": ["data"]}}}


def answers(
    schema: str, *problems: int, media_type: str = "application/json", others: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """What a route can answer, for the OpenAPI document. `others` are schemas that differ from the usual problem."""
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "Success.", "content": _content(schema, media_type)}
    }
    for status in problems:
        content = _content((others or {}).get(status, "Problem"))
        described[status] = {"description": _PROBLEMS[status], "content": content}
    return described


def takes(schema: str) -> dict[str, Any]:
    """A route's body, for the OpenAPI document."""
    return {"requestBody": {"required": True, "content": _content(schema)}}


def takes_parameters(place: str, *names: str) -> dict[str, Any]:
    """A route's parameters in `place` (query, path), for the OpenAPI document."""
    return {
        "parameters": [{"name": name, "in": place, "required": True, "schema": {"type": "string"}} for name in names]
    }
