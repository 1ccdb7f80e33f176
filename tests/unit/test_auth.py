"""Keys: asked for before anything else."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from isol8.api.auth import Authentication
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


KEYS = [f"key-number-{number}" for number in range(5)]


@pytest.mark.parametrize("sent", [*KEYS, KEYS[0][:-1], KEYS[0] + "x", "x", "x" * 5000, "\xff"])
async def test_every_key_costs_the_same_comparisons(sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent, right or wrong, long or short: it is compared with each key there is, by something as long as
    any other, in a function whose time does not depend on what it compares. No clock tells what this tells."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    called: list[str] = []

    async def inner(scope: Any, *_: Any) -> None:
        called.append(scope["isol8.caller"])

    async def send(message: Any) -> None:
        called.append(message.get("status", ""))

    application = Authentication(inner, KEYS)
    monkeypatch.setattr("isol8.api.auth.hmac", SimpleNamespace(compare_digest=compare))
    headers = [(b"authorization", f"Bearer {sent}".encode("latin-1"))]
    scope = {"type": "http", "path": "/x", "method": "GET", "headers": headers}
    await application(scope, None, send)  # type: ignore[arg-type]
    assert [len(part) for pair in compared for part in pair] == [32] * 2 * len(KEYS)
    assert len({known for _, known in compared}) == len(KEYS)
    assert sent.encode("latin-1") not in [part for pair in compared for part in pair]
    assert called[0] == (f"key{KEYS.index(sent) + 1}" if sent in KEYS else 403)
