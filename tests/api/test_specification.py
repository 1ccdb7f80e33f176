"""The specification's own examples, sent as they stand there."""

from __future__ import annotations

import re
import uuid

import httpx

from tests.support.calls import delete, download, events, upload

EXAMPLE = {
    "request": {
        "code": "print('hello')",
        "runtime": "python",
        "timeoutMs": 5000,
        "env": {"MY_VAR": "value"},
        "stdin": "input data",
        "files": {"/sandbox/data.csv": "a,b\n1,2"},
    },
    "options": {
        "network": "none",
        "memoryLimit": "512m",
        "cpuLimit": 1.0,
        "timeoutMs": 30000,
        "sandboxSize": "64m",
        "tmpSize": "64m",
    },
}
RESULT_FIELDS = {
    "stdout": str,
    "stderr": str,
    "exitCode": int,
    "durationMs": int,
    "truncated": bool,
    "executionId": str,
    "runtime": str,
    "timestamp": str,
    "containerId": str,
}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_health_needs_no_key(client: httpx.Client) -> None:
    answer = httpx.get(f"{client.base_url}/health", trust_env=False, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert re.match(r"\d+\.\d+\.\d+", answer.json()["version"])


def test_execute_gives_the_fields_of_the_example(client: httpx.Client) -> None:
    answer = client.post("/execute", json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    result = answer.json()
    for name, kind in RESULT_FIELDS.items():
        assert type(result[name]) is kind, name
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("hello\n", "", 0)
    assert (result["truncated"], result["runtime"]) == (False, "python")
    assert TIMESTAMP.fullmatch(result["timestamp"])
    assert result["containerId"]
    assert str(uuid.UUID(result["executionId"])) == result["executionId"]


def test_the_example_with_every_input_and_output(client: httpx.Client) -> None:
    code = (
        "import os, sys\n"
        "print(os.environ['MY_VAR'], sys.stdin.read(), open('/sandbox/data.csv').read())\n"
        "open('/sandbox/out.txt', 'w').write('written')"
    )
    request = {**EXAMPLE["request"], "code": code, "outputPaths": ["/sandbox/out.txt"]}
    result = client.post("/execute", json={**EXAMPLE, "request": request}).json()
    assert result["stdout"] == "value input data a,b\n1,2\n", result
    assert result["files"] == {"/sandbox/out.txt": "d3JpdHRlbg=="}


def test_the_example_with_a_session(client: httpx.Client, session: str) -> None:
    first = client.post("/execute", json={**EXAMPLE, "sessionId": session}).json()
    second = client.post("/execute", json={**EXAMPLE, "sessionId": session}).json()
    assert first["containerId"] == second["containerId"]
    assert first["executionId"] != second["executionId"]


def test_no_packages_to_install_is_no_installation(client: httpx.Client) -> None:
    request = {**EXAMPLE["request"], "installPackages": []}
    assert client.post("/execute", json={**EXAMPLE, "request": request}).status_code == 200


def test_memory_kill_is_the_example_error(client: httpx.Client) -> None:
    sent = {"request": {"code": "x = b'x' * (1 << 30)", "runtime": "python"}, "options": {"memoryLimit": "64m"}}
    answer = client.post("/execute", json=sent)
    assert (answer.status_code, answer.json()["error"]) == (500, "Execution failed: container OOM killed")


def test_the_stream_of_the_curl_example(client: httpx.Client) -> None:
    received = events(client, {"request": {"code": "for i in range(3): print(i)", "runtime": "python"}})
    assert "".join(event["data"] for event in received[:-1]) == "0\n1\n2\n"
    assert {event["type"] for event in received[:-1]} == {"stdout"}
    assert received[-1] == {"type": "exit", "data": "0"}


def test_files_of_a_session(client: httpx.Client, session: str) -> None:
    client.post("/execute", json={"request": {"code": "pass", "runtime": "python"}, "sessionId": session})
    sent = {"sessionId": session, "path": "/sandbox/data.csv", "content": "Y29sMSxjb2wyCjEsMg=="}
    answer = client.post("/file", json=sent)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert download(client, session, "/sandbox/data.csv") == b"col1,col2\n1,2"
    answer = client.get("/file", params={"sessionId": session, "path": "/sandbox/data.csv"})
    assert answer.json() == {"content": "Y29sMSxjb2wyCjEsMg=="}


def test_files_of_no_session(client: httpx.Client) -> None:
    answer = upload(client, "no-such-session", "/sandbox/x", b"x")
    assert (answer.status_code, answer.json()["error"]) == (404, "Session not found")
    answer = client.get("/file", params={"sessionId": "no-such-session", "path": "/sandbox/x"})
    assert (answer.status_code, answer.json()["error"]) == (404, "Session not found")


def test_missing_parameters_of_a_download(client: httpx.Client) -> None:
    for parameters in ({}, {"sessionId": "x"}, {"path": "/sandbox/x"}):
        answer = client.get("/file", params=parameters)
        assert (answer.status_code, answer.json()["error"]) == (400, "Missing sessionId or path")


def test_delete_is_idempotent(client: httpx.Client, session: str) -> None:
    client.post("/execute", json={"request": {"code": "pass", "runtime": "python"}, "sessionId": session})
    for _ in range(2):
        delete(client, session)
    delete(client, "my-session-that-never-was")
