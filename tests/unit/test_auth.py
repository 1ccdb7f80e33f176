"""Keys: asked for before anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.unit.api_server import serving
from tests.unit.scripted_engine import ScriptedEngine


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, ScriptedEngine()) as made:
        del made.headers["authorization"]
        yield made


ROUTES = [
    ("POST", "/execute"),
    ("POST", "/execute/stream"),
    ("POST", "/file"),
    ("GET", "/file"),
    ("GET", "/sessions"),
    ("GET", "/runtimes"),
    ("DELETE", "/session/x"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
    ("POST", "/health"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_needs_a_key(method: str, path: str, client: httpx.AsyncClient) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (401, {"error": "Missing Authorization header"})
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = await client.request(method, path, headers={"Authorization": "Bearer three"})
    assert (answer.status_code, answer.json()) == (403, {"error": "Invalid API key"})


async def test_health_needs_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("header", ["", "Bearer", "Basic b25l", "one"])
async def test_what_is_no_bearer_header(header: str, client: httpx.AsyncClient) -> None:
    assert (await client.get("/runtimes", headers={"Authorization": header})).status_code == 401


@pytest.mark.parametrize("key", ["on", "onee", "One", "one two", "\xff", "x" * 5000])
async def test_wrong_keys(key: str, client: httpx.AsyncClient) -> None:
    headers = {b"Authorization": f"Bearer {key}".encode("latin-1")}
    assert (await client.get("/runtimes", headers=headers)).status_code == 403


@pytest.mark.parametrize("header", ["Bearer one", "bearer two", "BEARER  one"])
async def test_right_keys(header: str, client: httpx.AsyncClient) -> None:
    assert (await client.get("/runtimes", headers={"Authorization": header})).status_code == 200


async def test_the_body_is_not_read_first(client: httpx.AsyncClient) -> None:
    assert (await client.post("/execute", content=b"{not json")).status_code == 401
