"""Server-sent events: an execution as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from isol8.api.connection import while_there
from isol8.api.problems import OUT_OF_MEMORY, ClientGone, log_bug, sentence_for
from isol8.errors import Isol8Error
from isol8.model import Event, Finished, Installing, Outcome, Output, Result
from isol8.wire.answer import event_frame

SILENCE_S = 15.0
# How much longer than its program may run a client may keep the stream waiting, in all, before it is given up.
PATIENCE_S = 120.0
_COMMENT = b": still running\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends what is left of `events`, after Started, and closes them. The program is killed when the client goes."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Event, None], timeout_ms: int) -> None:
        self._events = events
        self._timeout_ms = timeout_ms
        self._patience_s = timeout_ms / 1000 + PATIENCE_S
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await while_there(receive, self._send_all(send))
        except (ClientGone, TimeoutError):
            pass  # the generator is closed, and with it the execution
        finally:
            await self._events.aclose()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head leaves with it: joined.py
        async with aclosing(self._frames()) as frames:
            async for frame in frames:
                await self._send(send, {"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, message: Message) -> None:
        """Raises TimeoutError when the client has kept this stream, and with it a sandbox, waiting for too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout_at(began + self._patience_s):
            await send(message)
        self._patience_s -= loop.time() - began

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        """Events as they are sent, and a comment whenever there were none for a while."""
        try:
            while True:
                waiting = asyncio.ensure_future(anext(self._events, None))
                try:
                    while not (await asyncio.wait((waiting,), timeout=SILENCE_S))[0]:
                        yield _COMMENT
                finally:
                    await _end(waiting)
                event = waiting.result()
                if event is None:
                    return
                if isinstance(event, Output):
                    yield event_frame(event.stream, event.text)
                elif isinstance(event, Installing):
                    yield event_frame("install", f"{event.text}\n")
                elif isinstance(event, Finished):
                    yield self._last_frames(event.result)
        except Isol8Error as error:
            yield event_frame("error", sentence_for(error))
        except Exception:  # noqa: BLE001 - the status is sent already, so this is the only way to say it
            yield event_frame("error", log_bug())

    def _last_frames(self, result: Result) -> bytes:
        """How it ended: an error where there is one, then always the exit code."""
        frames = event_frame("exit", str(result.exit_code))
        if result.outcome is Outcome.TIMED_OUT:
            return event_frame("error", f"Execution timed out after {self._timeout_ms} ms") + frames
        if result.outcome is Outcome.OUT_OF_MEMORY:
            return event_frame("error", OUT_OF_MEMORY) + frames
        return frames


async def _end(waiting: asyncio.Future[Event | None]) -> None:
    """Nobody waits for the next event any more: stop waiting for it, which ends the execution."""
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait((waiting,))
