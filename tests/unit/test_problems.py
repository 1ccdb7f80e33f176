"""The HTTP application on a scripted engine: every error as JSON, the shapes of streams, clients that go away."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.types import Message

from isol8.api import streaming
from isol8.model import Event, Output
from tests.unit.api_server import serving
from tests.unit.scripted_engine import ScriptedEngine, until


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest_asyncio.fixture
async def client(tmp_path: Path, engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, engine) as made:
        yield made
    assert not engine.live
    assert engine.closed


def body(script: str, session: str | None = None, **parts: Any) -> dict[str, Any]:
    request = {"code": script.replace("; ", "\n"), "runtime": "bash"} | parts
    return {"request": request, "sessionId": session}


def assert_problem(answer: httpx.Response, status: int, sentence: str, code: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert sentence in answer.json()["error"]
    assert answer.json().get("code") == code


async def test_a_result(client: httpx.AsyncClient) -> None:
    answer = await client.post("/execute", json=body("out hello; err oh; exit 2"))
    result = answer.json()
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("hello\n", "oh\n", 2)
    assert (result["timedOut"], result["truncated"], result["runtime"]) == (False, False, "bash")
    assert result["timestamp"].endswith("Z")
    assert len(result["timestamp"]) == len("2026-02-14T12:00:00.000Z")
    assert result["usage"].keys() == {"cpuMs", "wallMs", "peakMemoryBytes"}
    assert not {"files", "fileErrors", "warnings"} & result.keys()


async def test_files_are_base64(client: httpx.AsyncClient) -> None:
    sent = body("exit 0", files={"/tmp/a": {"base64": "AP8="}}, outputPaths=["/tmp/a", "/tmp/b"])
    result = (await client.post("/execute", json=sent)).json()
    assert result["files"] == {"/tmp/a": "AP8="}
    assert result["fileErrors"] == {"/tmp/b": "File not found: /tmp/b"}


async def test_no_route_and_no_such_method(client: httpx.AsyncClient) -> None:
    for path in ("/", "/nowhere", "/execute/", "/metrics/"):
        assert_problem(await client.get(path), 404, "no such route")
    answer = await client.get("/execute")
    assert_problem(answer, 405, "does not take GET")
    assert "POST" in answer.headers["allow"]


async def test_metrics_are_for_who_has_a_key(client: httpx.AsyncClient) -> None:
    await client.post("/execute", json=body("exit 0"))
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'isol8_executions_total{outcome="completed",runtime="bash"} 1.0' in answer.text.splitlines()
    assert_problem(await client.get("/metrics", headers={"Authorization": ""}), 401, "Missing Authorization header")


@pytest.mark.parametrize("path", ["/execute", "/execute/stream", "/file"])
async def test_malformed_bodies(path: str, client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(path, content=b""), 400, "not valid JSON")
    assert_problem(await client.post(path, content=b"[]"), 400, "must be an object")


@pytest.mark.parametrize("chunked", [True, False])
async def test_bodies_that_are_too_large(chunked: bool, tmp_path: Path, engine: ScriptedEngine) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    async with serving(tmp_path, engine, policy={"maxBodySize": 1000}) as client:
        answer = await client.post("/execute", content=pieces() if chunked else b"x" * 2000)
        assert_problem(answer, 413, "larger than this server's limit of 1000")


async def test_beyond_the_policy_and_over_capacity(tmp_path: Path, engine: ScriptedEngine) -> None:
    tree = {"policy": {"timeoutMs": 1000, "requestsPerMinute": 2}, "maxConcurrent": 1, "maxQueue": 0}
    async with serving(tmp_path, engine, **tree) as client:
        assert_problem(await client.post("/execute", json=body("exit 0", timeoutMs=2000)), 403, "policy.timeoutMs")
        running = asyncio.create_task(client.post("/execute", json=body("say begun; wait go")))
        await engine.events["begun"].wait()
        for path in ("/execute/stream", "/execute"):
            answer = await client.post(path, json=body("exit 0"))
            status, code = (503, "at_capacity") if path == "/execute/stream" else (429, "rate_limited")
            assert_problem(answer, status, "", code)
            assert int(answer.headers["retry-after"]) >= 1
        engine.events["go"].set()
        assert (await running).status_code == 200


async def test_killed_for_memory(client: httpx.AsyncClient) -> None:
    answer = await client.post("/execute", json=body("out x; err y; oom"))
    assert_problem(answer, 500, "Execution failed: container OOM killed", "out_of_memory")
    assert (answer.json()["stdout"], answer.json()["stderr"]) == ("x\n", "y\n")
    assert answer.json()["executionId"]


async def test_engine_trouble_and_set_up_trouble(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/execute", json=body("die")), 500, "Execution failed: ", "engine_failure")
    answer = await client.post("/execute", json=body("exit 0", setupScript="err no\nexit 3"))
    assert_problem(answer, 500, "The set-up script failed with exit code 3: no", "setup_failed")


async def test_a_bug_of_ours_is_a_number(
    client: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.post("/execute", json=body("raw not-hexadecimal"))
    assert_problem(answer, 500, "Internal error", "internal_error")
    incident = answer.json()["error"].split()[2].rstrip(";")
    assert incident in caplog.text
    assert "hexadecimal" not in answer.text
    lines = [event async for event in events(client, body("raw not-hexadecimal"))]
    assert [line["type"] for line in lines] == ["error"]


async def events(client: httpx.AsyncClient, sent: Any) -> AsyncIterator[dict[str, str]]:
    async with client.stream("POST", "/execute/stream", json=sent) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        async for line in answer.aiter_lines():
            if line:
                yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("out a; err b; exit 3", [("stdout", "a\n"), ("stderr", "b\n"), ("exit", "3")]),
        ("oom", [("error", "Execution failed: container OOM killed"), ("exit", "137")]),
        ("die", [("error", "Execution failed: the sandbox ended")]),
        (
            "hang",
            [
                ("stderr", "Execution timed out after 50 ms\n"),
                ("error", "Execution timed out after 50 ms"),
                ("exit", "137"),
            ],
        ),
    ],
)
async def test_streams(script: str, expected: list[tuple[str, str]], client: httpx.AsyncClient) -> None:
    received = [(event["type"], event["data"]) async for event in events(client, body(script, timeoutMs=50))]
    assert received == expected


async def test_the_bytes_of_an_event(client: httpx.AsyncClient) -> None:
    answer = await client.post("/execute/stream", json=body("out Hello"))
    assert answer.content == b'data: {"type":"stdout","data":"Hello\\n"}\n\ndata: {"type":"exit","data":"0"}\n\n'


async def test_events_come_as_they_happen_and_comments_when_none_do(
    client: httpx.AsyncClient, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SILENCE_S", 0.02)
    async with client.stream("POST", "/execute/stream", json=body("out a; wait go")) as answer:
        lines = answer.aiter_lines()
        while (first := await anext(lines)).startswith(":") or not first:
            pass  # a busy machine may be silent before that, too
        assert first == 'data: {"type":"stdout","data":"a\\n"}'
        assert await anext(lines) == ""
        assert (await anext(lines)).startswith(":")
        engine.events["go"].set()
        assert [line async for line in lines if line.startswith("data")] == ['data: {"type":"exit","data":"0"}']


@pytest.mark.parametrize("path", ["/execute", "/execute/stream"])
@pytest.mark.parametrize("script", ["say begun; hang", "out x; say begun; hang", "say begun; wait never"])
async def test_a_client_that_goes_away(
    path: str, script: str, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    calling = asyncio.create_task(client.post(path, json=body(script)))
    await engine.events["begun"].wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await until(lambda: not engine.running and not any(sandbox.plans for sandbox in engine.live.values()))


async def test_a_client_that_goes_away_while_it_waits(
    tmp_path: Path, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isol8.audit")
    async with serving(tmp_path, engine, maxConcurrent=1) as client:
        running = asyncio.create_task(client.post("/execute", json=body("say begun; wait go")))
        await engine.events["begun"].wait()
        for count, path in enumerate(("/execute", "/execute/stream"), start=1):
            waiting = asyncio.create_task(client.post(path, json=body("say wrong")))
            while "isol8_queued 1.0" not in (await client.get("/metrics")).text:
                pass
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await until(lambda count=count: caplog.text.count('"outcome":"abandoned"') == count)  # type: ignore[misc]
        engine.events["go"].set()
        await running
        assert (await client.post("/execute", json=body("out x"))).json()["stdout"] == "x\n"
        assert not engine.events["wrong"].is_set()


async def test_sessions_and_their_files(client: httpx.AsyncClient) -> None:
    upload = {"sessionId": "s", "path": "/tmp/a", "content": base64.b64encode(b"\0\xff").decode()}
    query = {"sessionId": "s", "path": "/tmp/a"}
    assert_problem(await client.post("/file", json=upload), 404, "Session not found")
    assert_problem(await client.get("/file", params=query), 404, "Session not found")
    assert (await client.post("/execute", json=body("exit 0", "s"))).status_code == 200
    assert (await client.post("/file", json=upload)).json() == {"ok": True}
    assert (await client.get("/file", params=query)).json() == {"content": "AP8="}
    (session,) = (await client.get("/sessions")).json()["sessions"]
    assert (session["id"], session["isActive"]) == ("s", False)
    other = {"Authorization": "Bearer two"}
    assert (await client.get("/sessions", headers=other)).json() == {"sessions": []}
    assert_problem(await client.get("/file", params=query, headers=other), 404, "Session not found")
    for _ in range(2):
        assert (await client.delete("/session/s")).json() == {"ok": True}
    assert_problem(await client.get("/file", params=query), 404, "Session not found")


@pytest.mark.parametrize("params", [{}, {"path": "/tmp/a"}, {"sessionId": "s"}, {"sessionId": "", "path": "/tmp/a"}])
async def test_a_query_without_its_parts(params: dict[str, str], client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/file", params=params), 400, "Missing sessionId or path")


async def test_deleting_ends_a_run_with_a_clear_error(client: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    running = asyncio.create_task(client.post("/execute", json=body("say begun; hang", "s")))
    await engine.events["begun"].wait()
    assert (await client.delete("/session/s")).status_code == 200
    assert_problem(await running, 409, "The session was deleted", "session_deleted")


async def test_runtimes(client: httpx.AsyncClient) -> None:
    listed = {runtime["name"]: runtime for runtime in (await client.get("/runtimes")).json()["runtimes"]}
    assert listed["bash"] == {"name": "bash", "version": "5.2", "ready": True, "install": "apt-get install bash"}
    assert (listed["deno"]["ready"], listed["deno"]["version"]) == (False, None)


async def test_the_document_describes_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/health", "/execute", "/execute/stream", "/file", "/sessions", "/session/{session_id}", "/runtimes",
        "/metrics",
    }  # fmt: skip
    text = json.dumps(document)
    for name in (part.split('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert name in document["components"]["schemas"]
    assert (await client.get("/docs")).status_code == 200


async def test_a_stream_that_is_kept_waiting_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox behind it is someone else's to have."""
    monkeypatch.setattr(streaming, "PATIENCE_S", 0.05)
    closed = asyncio.Event()

    async def program() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Output("stdout", "x")
        finally:
            closed.set()

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 10:
            await asyncio.Event().wait()

    await streaming.EventStream(program(), 10)({"type": "http"}, never, send)
    assert closed.is_set()
    assert len(sent) == 11
    assert sent[-1]["more_body"]
