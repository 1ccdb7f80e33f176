"""The application on a real server and a scripted engine, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from isol8.api.server import create_api
from isol8.config import load_config
from tests.unit.scripted_engine import INSTALLED, ScriptedEngine, until


@asynccontextmanager
async def serving(directory: Path, engine: ScriptedEngine, **tree: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server, with the key `one`."""
    path = directory / "config.json"
    path.write_text(json.dumps({"apiKeys": ["one", "two"], "pool": {"python": 0}} | tree))
    application = create_api(load_config(str(path), {}), engine, INSTALLED)
    server = uvicorn.Server(
        uvicorn.Config(
            application, host="127.0.0.1", port=0, http="httptools", ws="none", log_config=None, lifespan="on"
        )
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"Authorization": "Bearer one"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60
    ) as client:
        yield client
    server.should_exit = True
    await running
