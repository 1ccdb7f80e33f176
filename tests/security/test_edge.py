"""Clients that hold on to something: bodies that trickle, answers that nobody reads, connections in their hundreds."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.security.conftest import api_process
from tests.support import machine
from tests.support.calls import body, delete, execute, read_to_end, refusal, stdout, upload, with_time_enough
from tests.support.machine import until
from tests.support.server import Server

MIB = 1 << 20
GRACE = {"transferGraceMs": 2000, "minTransferRate": "1k"}


@pytest.fixture(scope="module")
def strict(serve: Serve) -> Server:
    """A server with little patience, and room for one execution."""
    return serve({"policy": {**GRACE, "maxOutputSize": "64m"}, "maxConcurrent": 1})


def _connect(server: Server, source: str = "127.0.0.1") -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=120, source_address=(source, 0))


def _head(server: Server, *lines: str, path: str = "/execute") -> bytes:
    first = (f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.key}")
    return ("\r\n".join((*first, *lines)) + "\r\n\r\n").encode()


def _problem(said: bytes, status: int) -> dict[str, str]:
    head, _, content = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    problem: dict[str, str] = json.loads(content)
    assert problem["error"]
    return problem


@pytest.mark.parametrize(
    ("announced", "begun"),
    [
        ("Content-Length: 1000", b"{"),
        ("Content-Length: 1000", b""),
        ("Content-Length: 100000000", b"{" + b" " * 200_000),
        ("Transfer-Encoding: chunked", b"5\r\n{"),
        ("Transfer-Encoding: chunked", b""),
    ],
)
def test_a_body_that_does_not_come(strict: Server, announced: str, begun: bytes) -> None:
    with _connect(strict) as connection:
        connection.sendall(_head(strict, announced) + begun)
        assert "too slowly" in _problem(read_to_end(connection), 408)["error"]


def test_a_body_that_trickles(strict: Server) -> None:
    """Something comes all the time, and yet too little."""
    with _connect(strict) as connection:
        connection.sendall(_head(strict, "Content-Length: 100000") + b"{")
        connection.settimeout(0.05)
        said = b""
        deadline = time.monotonic() + 120
        while not said and time.monotonic() < deadline:
            try:
                connection.sendall(b" ")
                said = connection.recv(65536)
            except TimeoutError:
                continue
        _problem(said, 408)


def test_a_body_behind_another_request_has_its_time(strict: Server) -> None:
    """It is late only when its turn has come."""
    waiting = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('first')"
    first = json.dumps(body(waiting, sessionId="held")).encode()
    second = json.dumps(body("print('second')")).encode()
    with strict.client() as client, _connect(strict) as connection:
        execute(client, "print(1)", sessionId="held")
        connection.sendall(_head(strict, f"Content-Length: {len(first)}") + first)
        connection.sendall(_head(strict, f"Content-Length: {len(second)}", "Connection: close") + second[:20])
        time.sleep(2.5)  # twice the grace and more
        connection.sendall(second[20:])
        assert upload(client, "held", "/sandbox/go", b"").status_code == 200
        said = read_to_end(connection)
        delete(client, "held")
    assert b'"stdout":"first\\n"' in said
    assert b'"stdout":"second\\n"' in said


def test_requests_without_end_on_one_connection(server: Server) -> None:
    """Each is small and comes before the first is answered; none needs a key."""
    before = machine.resident_bytes(api_process(server))
    with _connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        said = read_to_end(connection)
    assert said.count(b"HTTP/1.1 200 ") < 5000
    assert machine.resident_bytes(api_process(server)) - before < 8 * MIB


def test_what_was_refused_early_is_not_read_for_ever(strict: Server) -> None:
    """Without a key nothing is taken, yet the answer must get through while the body is still on its way."""
    with _connect(strict) as connection:
        connection.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n{")
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        sent = 0
        deadline = time.monotonic() + 120
        try:
            while time.monotonic() < deadline:
                sent += connection.send(b" " * 1000)
                time.sleep(0.01)
        except ConnectionError:
            return
        pytest.fail(f"{sent} bytes were taken")


def test_connections_that_say_nothing_more_are_closed(server: Server) -> None:
    with _connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 ")


@contextmanager
def _deaf(server: Server) -> Iterator[socket.socket]:
    """A connection whose client has little room for what it does not read."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(120)
        connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        yield connection


def _served(server: Server, connection: socket.socket) -> bool:
    """Whether the server's end of a connection is open, as the kernel has it: its end comes behind what is unread."""
    ports = int(server.url.rpartition(":")[2]), connection.getsockname()[1]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = {tuple(int(end.split(":")[1], 16) for end in line[1:3]): line[3] for line in lines}
    return ends.get(ports) == "01"


@pytest.mark.parametrize("close", [True, False])
def test_an_answer_that_nobody_reads(strict: Server, close: bool) -> None:
    sent = body("print('x' * 40_000_000)", options={"maxOutputSize": "64m"})
    content = json.dumps(sent).encode()
    with strict.client() as client, _deaf(strict) as deaf:
        assert stdout(client, "print(1)") == "1\n"
        lines = [f"Content-Length: {len(content)}", *(["Connection: close"] if close else [])]
        assert _served(strict, deaf)  # with the answer its time begins
        deaf.sendall(_head(strict, *lines) + content)
        assert deaf.recv(9) == b"HTTP/1.1 "
        until(lambda: not _served(strict, deaf), "the server hangs up")
        said = read_to_end(deaf)
        assert said.startswith(b"200 ")
        assert len(said) < 40_000_000
        assert stdout(client, "print('served')") == "served\n"


def test_a_stream_that_nobody_reads(strict: Server) -> None:
    """The program is held up, not the server's memory filled; its time runs out; the place it had is free again."""
    code = "import os\nwhile True: os.write(1, b'x' * 65536)"

    def hold_up(timeout_ms: int) -> bytes:
        content = json.dumps(body(code, timeoutMs=timeout_ms, options={"maxOutputSize": "64m"})).encode()
        with strict.client() as client, _deaf(strict) as deaf:
            assert stdout(client, "print(1)") == "1\n"
            before = machine.resident_bytes(api_process(strict))
            deaf.sendall(_head(strict, f"Content-Length: {len(content)}", path="/execute/stream") + content)
            assert deaf.recv(1000).startswith(b"HTTP/1.1 200 ")
            peaks = [before]
            with machine.watching(lambda: peaks.append(machine.resident_bytes(api_process(strict)))):
                # The one place is taken until the stream is cut off.
                assert stdout(client, "print('next')") == "next\n"
            assert max(peaks) - before < 48 * MIB
            return read_to_end(deaf)

    # What it says before its time is over must be more than the kernel takes for a client that does not read.
    with_time_enough(hold_up, lambda said: b'"exit"' not in said, 1500)


def test_too_many_connections_are_told(serve: Serve) -> None:
    running = serve({"policy": {"maxConnections": 6, "maxConnectionsPerAddress": 4}})
    with ExitStack() as stack:
        mine = [stack.enter_context(closing(_connect(running))) for _ in range(4)]
        mine[0].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert mine[0].recv(4096).startswith(b"HTTP/1.1 200 ")
        for sent in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b""):  # also one that says nothing is told
            with _connect(running) as fifth:
                fifth.sendall(sent)
                said = read_to_end(fifth)
                assert _problem(said, 503)["code"] == "at_capacity"
                assert b"retry-after: 1" in said
        # Another address has places of its own, as long as there are any.
        for _ in range(2):
            other = stack.enter_context(closing(_connect(running, "127.0.0.2")))
            other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
        with _connect(running, "127.0.0.3") as seventh:
            seventh.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            _problem(read_to_end(seventh), 503)
        mine.pop().close()
        until(lambda: _healthy(running), "a place that was given back")


def _healthy(server: Server) -> bool:
    with _connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return read_to_end(connection).startswith(b"HTTP/1.1 200 ")


def test_more_connections_than_there_are_descriptors(serve: Serve) -> None:
    """The machine gives 400: connections leave what sandboxes need, and none is left hanging."""
    config = {"maxConcurrent": 8, "policy": {"maxSessionsPerKey": 10, "maxConnections": 100_000}}
    running = serve(config, wrapper=("prlimit", "--nofile=400:400"))
    assert "instead of 100000" in running.log_text()
    with running.client() as client, ExitStack() as stack:
        assert stdout(client, "print(1)") == "1\n"
        crowd = [stack.enter_context(closing(_connect(running))) for _ in range(450)]
        for connection in crowd:
            connection.setblocking(False)
        turned_away = until(lambda: [c for c in crowd if _over(c)], "connections that are turned away")
        assert len(turned_away) < 450
        assert stdout(client, "print('still')") == "still\n"
        assert execute(client, "open('x', 'w')", sessionId="s")["exitCode"] == 0
    until(lambda: _healthy(running), "room again")
    with running.client() as client:
        assert stdout(client, "print('again')") == "again\n"
    assert "Traceback" not in running.log_text()
    assert "Too many open files" not in running.log_text()


def _over(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_the_limit_of_descriptors_is_raised(serve: Serve) -> None:
    running = serve(wrapper=("prlimit", "--nofile=256:3000"))
    for pid in {running.pid, api_process(running)}:
        limits = Path(f"/proc/{pid}/limits").read_text()
        found = re.search(r"Max open files\s+(\d+)\s+(\d+)", limits)
        assert found
        assert found.groups() == ("3000", "3000")


def test_output_files_have_a_ceiling(serve: Serve) -> None:
    running = serve({"policy": {"maxOutputFilesSize": "1m"}})
    code = "for name in 'abc': open(name, 'w').write(name * (400_000 if name != 'b' else 700_000))"
    paths = [f"/sandbox/{name}" for name in "abc"]
    with running.client() as client:
        result = execute(client, code, outputPaths=paths)
    assert {path: len(base64.b64decode(content)) for path, content in result["files"].items()} == {
        "/sandbox/a": 400_000,
        "/sandbox/c": 400_000,
    }
    assert list(result["fileErrors"]) == ["/sandbox/b"]
    assert "policy.maxOutputFilesSize" in result["fileErrors"]["/sandbox/b"]
    assert "1m" in result["fileErrors"]["/sandbox/b"]


def test_large_contents_come_back_as_they_were(client: httpx.Client, session: str) -> None:
    """Every way in and out, at a size at which each goes in pieces."""
    content = bytes(range(256)) * 4096 * 20
    encoded = base64.b64encode(content).decode()
    text = 'é"\\\n🙂\0/\u2028' * 500_000
    options = {"sandboxSize": "256m", "memoryLimit": "1g", "maxOutputSize": "16m"}
    files = {
        "/sandbox/bytes": {"base64": encoded},
        "/sandbox/text": text,
        "/sandbox/buffer": {"type": "Buffer", "data": list(content[:MIB])},
    }
    code = (
        "import sys, hashlib\n"
        "text = sys.stdin.buffer.read()\n"
        "assert text == open('text', 'rb').read()\n"
        "assert open('bytes', 'rb').read(1 << 20) == open('buffer', 'rb').read()\n"
        "sys.stdout.buffer.write(text)\n"
        "sys.stderr.buffer.write(text)\n"
    )
    sent = body(code, files=files, stdin=text, outputPaths=[*files, "/sandbox/none"], options=options)
    result = client.post("/execute", json=sent | {"sessionId": session})
    assert result.status_code == 200, result.text[:500]
    found = result.json()
    assert (found["exitCode"], found["truncated"]) == (0, False), found["stderr"][-500:]
    assert found["stdout"] == found["stderr"] == text
    assert base64.b64decode(found["files"]["/sandbox/bytes"]) == content
    assert base64.b64decode(found["files"]["/sandbox/text"]).decode() == text
    assert base64.b64decode(found["files"]["/sandbox/buffer"]) == content[:MIB]
    assert list(found["fileErrors"]) == ["/sandbox/none"]
    upload = {"sessionId": session, "path": "/sandbox/up", "content": encoded}
    assert client.post("/file", json=upload).json() == {"ok": True}
    answer = client.get("/file", params={"sessionId": session, "path": "/sandbox/up"})
    assert base64.b64decode(answer.json()["content"]) == content


def test_a_large_answer_to_a_kill_for_memory(client: httpx.Client) -> None:
    code = "import sys; sys.stdout.write('y' * 900_000); sys.stdout.flush(); x = b'x' * (1 << 30)"
    answer = client.post("/execute", json=body(code, options={"memoryLimit": "64m"}))
    problem = refusal(answer, 500, "OOM")
    assert (problem["code"], problem["stdout"]) == ("out_of_memory", "y" * 900_000)


def test_a_program_that_reads_no_input_and_writes_much(client: httpx.Client) -> None:
    """Neither side waits for the other: input goes in beside the output that comes out."""
    code = "import os\nfor _ in range(400): os.write(1, b'o' * 65536)\nprint(len(open(0).read()))"
    result = execute(client, code, stdin="i" * 20_000_000, options={"maxOutputSize": "32m"})
    assert (result["exitCode"], result["timedOut"]) == (0, False)
    assert result["stdout"].endswith("o20000000\n")
