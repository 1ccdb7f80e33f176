"""Answers that may be large: what was collected of an execution, or a file.

Small ones are one piece of JSON. Large ones are made and sent in pieces, as fast as the client reads, so that they
neither hold up other requests nor are in memory several times over.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from isol8.api.connection import in_steps
from isol8.api.problems import json_response, out_of_memory
from isol8.model import Content, Outcome
from isol8.service.executor import Collected
from isol8.wire.answer import has_files, result_json, result_values, to_base64, to_json
from isol8.wire.segments import Base64, Segments, object_segments, pieces_of

_LARGE_BYTES = 256 * 1024


class Pieces(Response):
    """JSON whose length is known and which is made while it is sent."""

    media_type = "application/json"

    def __init__(self, segments: Segments, status: int = 200) -> None:
        self._segments = segments
        super().__init__(None, status)
        self.headers["content-length"] = str(sum(map(len, segments)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in pieces_of(self._segments):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # a client that reads fast must not keep the others waiting
        await send({"type": "http.response.body", "body": b""})


async def execution_answer(collected: Collected) -> Response:
    """What came of an execution. `collected` is used up."""
    result, stdout, stderr = collected.result, collected.stdout, collected.stderr
    killed = result.outcome is Outcome.OUT_OF_MEMORY
    size = sum(map(len, stdout)) + sum(map(len, stderr))
    if result.files:
        size += sum(map(len, result.files.values()))
    if size <= _LARGE_BYTES:
        texts = "".join(stdout), "".join(stderr)
        if killed:
            return json_response(to_json({**out_of_memory(result), "stdout": texts[0], "stderr": texts[1]}), 500)
        return json_response(result_json(result, *texts))
    values: dict[str, Any] = out_of_memory(result) if killed else result_values(result)
    files = result.files if has_files(result) and not killed else None
    segments = await in_steps(object_segments(values, {"stdout": stdout, "stderr": stderr}, files))
    return Pieces(segments, 500 if killed else 200)


def file_answer(content: Content) -> Response:
    """A file."""
    if len(content) <= _LARGE_BYTES:
        return json_response(to_json({"content": to_base64(content)}))
    return Pieces([b'{"content":"', Base64(content), b'"}'])
