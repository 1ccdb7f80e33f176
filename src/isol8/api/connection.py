"""The client's side of a request: its body, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from isol8.api.problems import BodyTooLarge, ClientGone
from isol8.config import Policy
from isol8.sizes import format_size
from isol8.wire.large import LargeBody, Steps
from isol8.wire.parcel import PIECE_BYTES
from isol8.wire.request import Parsed, parse

# Of one file beside its path, as large.py sets contents aside; and of everything that is not files.
_FILE_BYTES, _FILE_STRINGS, _FILE_VALUES = 5 * 1024, 6, 150
_OTHER_BYTES, _OTHER_VALUES = 1024 * 1024, 16 * 1024

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """The most of a body: `whole`, in bytes; and what of it is not contents: bytes, strings, other values."""

    whole: int
    rest: int
    strings: int
    values: int

    @classmethod
    def of(cls, policy: Policy) -> BodyBounds:
        """What a policy's other limits leave room for: a file is a path, a short content, and what names the two."""
        rest = policy.max_files * (policy.max_path_length + _FILE_BYTES) + policy.max_env_size + _OTHER_BYTES
        strings, values = (policy.max_files * of_file + _OTHER_VALUES for of_file in (_FILE_STRINGS, _FILE_VALUES))
        return cls(policy.max_body_size, rest, strings, values)


async def read_json(request: Request, model: type[Parsed], bounds: BodyBounds) -> Parsed:
    """The body as JSON of the given type; what is large is read without holding up others.

    Raises InvalidRequest, Forbidden, ClientGone, and BodyTooLarge as soon as too much is announced or comes.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bounds.whole:
        raise _too_large(bounds)
    large: LargeBody | None = None
    received = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        received += len(piece)
        if received > bounds.whole:
            raise _too_large(bounds)
        if large is None:
            if not more and received <= PIECE_BYTES:
                return parse(model, piece)
            large = LargeBody(bounds.rest, bounds.strings, bounds.values)
        large.feed(piece)
        if not more:
            return await in_steps(large.restore(large.parse(model)))


def _too_large(bounds: BodyBounds) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than this server's limit of {format_size(bounds.whole)}")


async def in_steps(steps: Steps[Done]) -> Done:
    """Do what is done in short steps, and let others have their turn between them."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Done = done.value
            return result
        await asyncio.sleep(0)


async def _cancel_when_gone(receive: Receive, work: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    work.cancel()


async def while_there(receive: Receive, work: Awaitable[Done]) -> Done:
    """Do `work` for a client whose body is read. When it goes away the work is cancelled.

    Raises ClientGone, and what the work raises.
    """
    task = asyncio.current_task()
    assert task
    watching = asyncio.get_running_loop().create_task(_cancel_when_gone(receive, task))
    try:
        return await work
    except (Exception, asyncio.CancelledError):
        if watching.done():
            raise ClientGone from None
        raise
    finally:
        if not watching.cancel():
            task.uncancel()
