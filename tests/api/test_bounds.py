"""What a request may not exceed even when it names no limit: each size, at it and beyond it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import Json, body, delete, execute, refusal, refused, upload
from tests.support.server import Server

POLICY = {
    "maxBodySize": "300k",
    "maxCodeSize": "2k",
    "maxFiles": 3,
    "maxPathLength": 40,
    "maxEnvSize": "1k",
    "maxStdinSize": "100k",
    "maxSessionsPerKey": 2,
}


@pytest.fixture(scope="module")
def narrow(serve: Serve) -> Server:
    return serve({"policy": POLICY, "apiKeys": ["key-one", "key-two"]}, key=None)


def _files(count: int, name: str = "") -> Json:
    return {f"/sandbox/{name}{number}": "x" for number in range(count)}


SIZES: list[tuple[Any, Any, str]] = [
    ({"code": "#" * 2048}, {"code": "#" * 2049}, "maxCodeSize"),
    ({"code": "#" * 2048}, {"code": "é" * 1025}, "maxCodeSize"),
    ({"code": "#" * 2048}, {"code": "#" * 100_000}, "maxCodeSize"),
    ({"code": "1", "setupScript": "#" * 2048}, {"code": "1", "setupScript": "#" * 2049}, "maxCodeSize"),
    ({"code": "1", "files": _files(3)}, {"code": "1", "files": _files(4)}, "maxFiles"),
    (
        {"code": "1", "files": _files(2), "outputPaths": ["/sandbox/0"]},
        {"code": "1", "files": _files(2), "outputPaths": ["/sandbox/0", "/sandbox/1"]},
        "maxFiles",
    ),
    ({"code": "1", "files": _files(3)}, {"code": "1", "files": _files(100_00)}, "maxFiles"),
    ({"code": "1", "files": _files(1, "y" * 30)}, {"code": "1", "files": _files(1, "y" * 31)}, "maxPathLength"),
    ({"code": "1", "outputPaths": ["/tmp/" + "y" * 35]}, {"code": "1", "outputPaths": ["/tmp/" + "y" * 36]}, "maxPath"),
    ({"code": "1", "env": {"A": "x" * 1023}}, {"code": "1", "env": {"A": "x" * 1024}}, "maxEnvSize"),
    ({"code": "1", "env": {"A": "x" * 1023}}, {"code": "1", "env": {"A": "x" * 100_000}}, "maxEnvSize"),
    ({"code": "1", "stdin": "x" * 102_400}, {"code": "1", "stdin": "x" * 102_401}, "maxStdinSize"),
    ({"code": "1", "metadata": {"A": "x" * 16_000}}, {"code": "1", "metadata": {"A": "x" * 17_000}}, "metadata"),
]


@pytest.mark.parametrize(("within", "beyond", "named"), SIZES, ids=[f"{n}-{e[2]}" for n, e in enumerate(SIZES)])
@pytest.mark.parametrize("path", ["/execute", "/execute/stream"])
def test_sizes(narrow: Server, path: str, within: Json, beyond: Json, named: str) -> None:
    runtime = {"runtime": "python"}
    with narrow.client() as client:
        assert client.post(path, json={"request": within | runtime}).status_code == 200
        refused(client, 403, {"request": beyond | runtime}, path=path, mentions=named)


def test_secrets_count_as_environment(narrow: Server) -> None:
    with narrow.client() as client:
        beyond = body("1", env={"A": "x" * 600}, options={"secrets": {"B": "y" * 600}})
        refused(client, 403, beyond, mentions="maxEnvSize")


@pytest.mark.parametrize("path", ["/execute", "/execute/stream", "/file"])
def test_the_body_whole(narrow: Server, path: str) -> None:
    with narrow.client() as client:
        refusal(client.post(path, content=b"{" + b" " * 307_200 + b"}"), 413, "300k")
        refusal(client.post(path, content=iter([b"{", b" " * 200_000, b" " * 200_000])), 413, "300k")
        refusal(client.post(path, content=b" " * 307_200), 400)


def test_sessions_of_each_key(narrow: Server) -> None:
    with narrow.client("key-one") as one, narrow.client("key-two") as two:
        for name in ("a", "b"):
            execute(one, "print(1)", sessionId=name)
        refused(one, 403, body("1", sessionId="c"), mentions="maxSessionsPerKey")
        refusal(upload(one, "c", "/tmp/x", b""), 404)
        execute(one, "print(1)", sessionId="a")  # one that is there already is no further one
        execute(two, "print(1)", sessionId="c")  # and another key has its own
        delete(one, "a")
        execute(one, "print(1)", sessionId="c")
        for client, names in ((one, "bc"), (two, "c")):
            for name in names:
                delete(client, name)


def test_many_strings_and_values_are_refused_before_they_are_looked_at(client: httpx.Client) -> None:
    """A request of the usual server that is within its 256 MiB, and would cost it seconds."""
    for many in (b'"",' * 3_000_000, b"[]," * 3_000_000, b"1," * 3_000_000, b'{"a":1},' * 1_000_000):
        answer = client.post("/execute", content=b'{"request":{"code":"1","runtime":"python","env":[' + many + b"0]}}")
        assert answer.status_code in (400, 403), answer.text
        refusal(answer, answer.status_code)
