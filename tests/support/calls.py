"""Short forms of the calls that most tests make. They assert the status and give back the JSON."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

Json = dict[str, Any]


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
