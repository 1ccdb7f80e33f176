"""POST /execute/stream: events as they happen, in the specification's shapes."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.support.calls import Json, body, events, joined, parse_events, refusal, with_time_enough
from tests.support.programs import EXIT_3, HELLO


def test_hello_in_every_runtime(client: httpx.Client, runtime: str) -> None:
    assert events(client, body(HELLO[runtime], runtime)) == [
        {"type": "stdout", "data": "hello\n"},
        {"type": "exit", "data": "0"},
    ]


def test_both_streams_and_the_exit_code(client: httpx.Client, runtime: str) -> None:
    received = events(client, body(EXIT_3[runtime], runtime))
    assert (joined(received, "stdout"), joined(received, "stderr")) == ("out\n", "err\n")
    assert [event for event in received if event["type"] not in ("stdout", "stderr")] == [{"type": "exit", "data": "3"}]
    assert received[-1]["type"] == "exit"


def test_headers_and_exact_bytes(client: httpx.Client) -> None:
    answer = client.post("/execute/stream", json=body("print('a\\n\\u00e9\"')"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    first, last, rest = answer.content.decode().split("\n\n")
    assert rest == ""
    assert json.loads(first.removeprefix("data: ")) == {"type": "stdout", "data": 'a\né"\n'}
    assert last == 'data: {"type":"exit","data":"0"}'


def test_events_come_as_the_program_writes(client: httpx.Client) -> None:
    """The program waits on a pipe nobody writes to after its first line: only a flushed event gets that to us."""
    code = "print('first', flush=True)\nimport time\ntime.sleep(3600)"
    with client.stream("POST", "/execute/stream", json=body(code)) as answer:
        assert next(parse_events(answer.iter_lines())) == {"type": "stdout", "data": "first\n"}


def test_the_head_comes_before_any_event(client: httpx.Client) -> None:
    """The program never writes anything, and the client has its answer."""
    with client.stream("POST", "/execute/stream", json=body("import time\ntime.sleep(3600)")) as answer:
        assert answer.status_code == 200


def test_a_session_is_ignored(client: httpx.Client, session: str) -> None:
    events(client, body("open('left', 'w')", sessionId=session))
    assert session not in [entry["id"] for entry in client.get("/sessions").json()["sessions"]]
    received = events(client, body("import os; print(os.path.exists('left'))", sessionId=session))
    assert joined(received, "stdout") == "False\n"


def test_timeout_is_error_then_exit_137(client: httpx.Client) -> None:
    def run(timeout_ms: int) -> list[Json]:
        return events(client, body("print('before', flush=True)\nwhile True: pass", timeoutMs=timeout_ms))

    received, timeout_ms = with_time_enough(run, lambda received: received[0]["type"] == "stdout")
    assert joined(received, "stdout") == "before\n"
    assert [event["type"] for event in received[-2:]] == ["error", "exit"]
    assert f"{timeout_ms} ms" in received[-2]["data"]
    assert received[-1]["data"] == "137"
    assert [event["type"] for event in received].count("exit") == 1


def test_memory_kill_is_error_then_exit_137(client: httpx.Client) -> None:
    received = events(client, body("print('before', flush=True)\nx = b'x' * (1 << 30)", options={"memoryLimit": "64m"}))
    assert joined(received, "stdout") == "before\n"
    assert [event["type"] for event in received[-2:]] == ["error", "exit"]
    assert "OOM" in received[-2]["data"]
    assert received[-1]["data"] == "137"


def test_output_over_the_cap(client: httpx.Client) -> None:
    received = events(client, body("print('x' * 5000)", options={"maxOutputSize": "1000"}))
    assert joined(received, "stdout") == "x" * 1000
    assert received[-1] == {"type": "exit", "data": "0"}


def test_characters_and_secrets_are_whole_across_events(client: httpx.Client) -> None:
    code = (
        "import os, sys, time\n"
        "for piece in ('é'.encode() + os.environ['TOKEN'].encode() + '🙂'.encode()):\n"
        "    os.write(1, bytes([piece])); time.sleep(0.002)\n"
    )
    received = events(client, body(code, options={"secrets": {"TOKEN": "s3cret-value"}}))
    assert joined(received, "stdout") == "é***🙂"


REFUSED: list[tuple[Json, int]] = [
    ({}, 400),
    (body(""), 400),
    (body("1", "cobol"), 400),
    (body("1", timeoutMs=0), 400),
    (body("1", installPackages=["--upgrade"]), 400),
    (body("1", options={"network": "filtered"}), 403),
    (body("1", options={"network": "host"}), 403),
    (body("1", options={"memoryLimit": "900g"}), 403),
]


@pytest.mark.parametrize(("sent", "status"), REFUSED)
def test_refusals_come_before_any_event(client: httpx.Client, sent: Json, status: int) -> None:
    refusal(client.post("/execute/stream", json=sent), status)


def test_a_silent_program_is_kept_alive_with_comments(client: httpx.Client) -> None:
    """One comment line after 15 seconds of silence, so that nothing between us and the client hangs up."""
    begun = time.monotonic()
    with client.stream("POST", "/execute/stream", json=body("import time; time.sleep(3600)")) as answer:
        first = next(line for line in answer.iter_lines() if line)
    assert first.startswith(":")
    assert time.monotonic() - begun > 14


def test_no_character_of_the_output_ends_a_line_of_the_stream(client: httpx.Client) -> None:
    text = "".join(map(chr, [*range(1, 0x100), 0x2028, 0x2029, 0x1F642]))
    received = events(client, body(f"import sys; sys.stdout.buffer.write({text.encode()!r})"))
    assert joined(received, "stdout") == text
