"""Short forms of the calls that most tests make. They assert the status and give back the JSON."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from tests.support.programs import SPOKEN
from tests.support.server import Server

Json = dict[str, Any]
Found = TypeVar("Found")


def body(code: str | None, runtime: str = "python", /, **parts: Any) -> Json:
    """A request body. `options` and `sessionId` go beside `request`; every other name goes into it."""
    beside: Json = {name: parts.pop(name) for name in ("options", "sessionId") if name in parts}
    source: Json = {} if code is None else {"code": code, "runtime": runtime}
    return {"request": source | parts, **beside}


def execute(client: httpx.Client, code: str | None, runtime: str = "python", /, **parts: Any) -> Json:
    """POST /execute, which must answer 200."""
    answer = client.post("/execute", json=body(code, runtime, **parts))
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    return result


def with_time_enough(
    attempt: Callable[[int], Found], enough: Callable[[Found], object], first_ms: int = 500
) -> tuple[Found, int]:
    """What `attempt` gives for a time limit, and that limit in milliseconds: the first, or on a machine that is too
    busy for it a later one, with which what it gives is `enough`. Raises AssertionError when none is."""
    found = attempt(first_ms)
    for more_ms in (5_000, 30_000, 120_000):
        if enough(found):
            return found, first_ms
        first_ms = more_ms
        found = attempt(first_ms)
    assert enough(found), found
    return found, first_ms


def out_of_time(
    client: httpx.Client,
    code: str,
    runtime: str = "python",
    /,
    came_far: Callable[[Json], object] = lambda result: SPOKEN in result["files"],
    first_ms: int = 500,
    **parts: Any,
) -> tuple[Json, int]:
    """POST /execute of a program that must run out of time: the result, and how many milliseconds it had.

    `came_far` says of a result whether the program did before that what it was to do; by default, when it left
    `programs.SPOKEN` behind.
    """

    def attempt(timeout_ms: int) -> Json:
        result = execute(client, code, runtime, **({"outputPaths": [SPOKEN]} | parts), timeoutMs=timeout_ms)
        assert (result["timedOut"], result["exitCode"]) == (True, 137), result
        return result

    return with_time_enough(attempt, came_far, first_ms)


def send(server: Server, path: str, sent: Json) -> socket.socket:
    """Send a request, and do not wait for its answer. Closing the connection is going away."""
    content = json.dumps(sent).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nConnection: close\r\n"
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=120)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def stdout(client: httpx.Client, code: str | None, runtime: str = "python", /, **parts: Any) -> str:
    """What a program prints that must end well and say nothing on stderr."""
    result = execute(client, code, runtime, **parts)
    assert (result["exitCode"], result["stderr"]) == (0, ""), result
    printed: str = result["stdout"]
    return printed


def refused(client: httpx.Client, status: int, sent: Any, *, path: str = "/execute", mentions: str = "") -> Json:
    """POST something that must be refused with one clear sentence that mentions something. Gives the answer."""
    return refusal(client.post(path, json=sent), status, mentions)


def refusal(answer: httpx.Response, status: int, mentions: str = "") -> Json:
    """The JSON of an error answer, checked for the shape that every error has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    problem: Json = answer.json()
    sentence = problem["error"]
    assert isinstance(sentence, str)
    assert sentence.strip()
    assert "\n" not in sentence
    assert "Traceback" not in answer.text
    assert "isol8." not in answer.text.replace("isol8.config.json", "")
    assert mentions.lower() in sentence.lower(), sentence
    return problem


def upload(client: httpx.Client, session: str, path: str, content: bytes) -> httpx.Response:
    """POST /file."""
    encoded = base64.b64encode(content).decode()
    return client.post("/file", json={"sessionId": session, "path": path, "content": encoded})


def download(client: httpx.Client, session: str, path: str) -> bytes:
    """GET /file, which must answer 200."""
    answer = client.get("/file", params={"sessionId": session, "path": path})
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["content"], validate=True)


def delete(client: httpx.Client, session: str) -> None:
    """DELETE /session/:id, which always answers the same."""
    answer = client.delete(f"/session/{quote(session, safe='')}")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


def events(client: httpx.Client, sent: Json) -> list[Json]:
    """POST /execute/stream to its end; the events in order."""
    with client.stream("POST", "/execute/stream", json=sent) as answer:
        if answer.status_code != 200:
            answer.read()
        assert answer.status_code == 200, answer.text
        return list(parse_events(answer.iter_lines()))


def parse_events(lines: Iterator[str]) -> Iterator[Json]:
    """Events as they arrive. Every line must be a `data:` line of one event, a comment, or empty."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
        else:
            assert not line or line.startswith(":"), line


def joined(received: list[Json], kind: str) -> str:
    """All data of the events of one type."""
    return "".join(event["data"] for event in received if event["type"] == kind)


def read_to_end(connection: socket.socket) -> bytes:
    """All that the server says until it hangs up, also when it does so while something was still written to it."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)
