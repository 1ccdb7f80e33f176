"""The client's side of a request: its body, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from isol8.api.problems import BodyTooLarge, ClientGone
from isol8.sizes import format_size

Done = TypeVar("Done")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as more than `max_bytes` are announced or come, ClientGone."""
    too_large = BodyTooLarge(f"The body is larger than this server's limit of {format_size(max_bytes)}")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    pieces: list[bytes] = []
    received = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        received += len(piece)
        if received > max_bytes:
            raise too_large
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_there(receive: Receive, work: Coroutine[Any, Any, Done]) -> Done:
    """Do `work` for a client whose body is read. When it goes away the work is cancelled.

    Raises ClientGone, and what the work raises.
    """
    loop = asyncio.get_running_loop()
    working, gone = loop.create_task(work), loop.create_task(_until_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
