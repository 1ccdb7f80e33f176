"""Every 4xx and 5xx has the same shape, wherever it comes from."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.calls import Json, body, refusal, refused
from tests.support.server import Server


def test_unknown_route(client: httpx.Client) -> None:
    refusal(client.get("/no/such/route"), 404)
    refusal(client.post("/execute/"), 404)
    refusal(client.get("/session/a/b"), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/execute"), ("PUT", "/execute"), ("GET", "/execute/stream"), ("PATCH", "/file"), ("POST", "/session/x")],
)
def test_wrong_method(client: httpx.Client, method: str, path: str) -> None:
    refusal(client.request(method, path), 405)


NO_OBJECT = [b"", b"{", b"null", b"[]", b'"text"', b"7", b"{'a': 1}", b"\xff\xfe", b'{"request": {"code": "\xff"}}']


@pytest.mark.parametrize("path", ["/execute", "/execute/stream", "/file"])
@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b"null", b"[]", b'"text"', b"7", b"{'single': 1}", b"\xff\xfe", b'{"request": {"code": "\xff"}}'],
)
def test_what_is_no_json_object(client: httpx.Client, path: str, sent: bytes) -> None:
    refusal(client.post(path, content=sent, headers={"Content-Type": "application/json"}), 400)


def test_deeply_nested_json(client: httpx.Client) -> None:
    refusal(client.post("/execute", content=b"[" * 100_000), 400)
    refusal(client.post("/execute", content=b'{"request":' * 50_000), 400)


def test_json_is_read_whatever_the_content_type_says(client: httpx.Client) -> None:
    content = b'{"request": {"code": "print(1)", "runtime": "python"}}'
    for kind in ("text/plain", "application/json; charset=utf-8"):
        assert client.post("/execute", content=content, headers={"Content-Type": kind}).status_code == 200


def test_body_over_the_limit_by_its_length(client: httpx.Client, server: Server) -> None:
    """Refused by what its head says: the body need not be sent."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=120) as connection:
        lines = [
            "POST /execute HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {server.key}",
            "Content-Length: 99999999999",
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
def test_body_over_the_limit_in_chunks(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"request": {"runtime": "python", "code": "'
        for _ in range(8192):
            yield b"#" * 262_144

    try:
        answer = client.post("/execute", content=endless())
    except httpx.WriteError:
        return  # the server answered and hung up before we had read
    refusal(answer, 413)


UNKNOWN: list[tuple[Json, str]] = [
    ({**body("1"), "sessionID": "x"}, "sessionID"),
    (body("1", timeoutMS=5), "timeoutMS"),
    (body("1", colour="red"), "colour"),
    (body("1", options={"memorylimit": "1g"}), "memorylimit"),
    (body("1", options={"memory": "1g"}), "memory"),
    (body("1", options={"cpus": 1}), "cpus"),
    (body("1", options={"pidLimit": 5}), "pidLimit"),
    (body("1", options={"timeout": 5}), "timeout"),
]


@pytest.mark.parametrize("path", ["/execute", "/execute/stream"])
@pytest.mark.parametrize(("sent", "named"), UNKNOWN)
def test_unknown_fields_are_named(client: httpx.Client, path: str, sent: Json, named: str) -> None:
    refused(client, 400, sent, path=path, mentions=named)


def test_a_misspelt_limit_is_told_its_right_name(client: httpx.Client) -> None:
    refused(client, 400, body("1", options={"memorylimit": "1g"}), mentions="memoryLimit")


def test_openapi_describes_every_route(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    paths = {path: set(methods) for path, methods in document["paths"].items()}
    assert {"get", "post"} <= paths["/file"]
    for path, method in (("/execute", "post"), ("/execute/stream", "post"), ("/sessions", "get"), ("/runtimes", "get")):
        assert method in paths[path]
    assert any("delete" in methods for path, methods in paths.items() if path.startswith("/session/"))
    assert client.get("/docs").status_code == 200


def test_runtimes_are_listed(client: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in client.get("/runtimes").json()["runtimes"]}
    assert set(entries) == {"python", "node", "bun", "deno", "bash"}
    for entry in entries.values():
        assert {"name", "version", "ready", "install"} <= set(entry)
        assert entry["version"] if entry["ready"] else entry["install"]
    assert entries["python"]["ready"]
    assert entries["bash"]["ready"]


def test_what_is_not_http_is_answered_in_json(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), timeout=120) as connection:
        connection.sendall(b"GET / SMTP/9\r\nx\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert list(json.loads(content)) == ["error"]
