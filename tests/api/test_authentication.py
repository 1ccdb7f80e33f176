"""Every route but GET /health needs a key, and says so before it looks at anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import execute, refusal
from tests.support.server import KEY, Server

ROUTES = [
    ("POST", "/execute"),
    ("POST", "/execute/stream"),
    ("POST", "/file"),
    ("GET", "/file"),
    ("DELETE", "/session/x"),
    ("GET", "/sessions"),
    ("GET", "/runtimes"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/no/such/route"),
    ("PUT", "/execute"),
    ("POST", "/health"),
]
NOT_BEARER = [None, "", "Basic dXNlcjpwYXNz", KEY, f"Token {KEY}", "Bearer"]
WRONG = ["Bearer wrong", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {KEY.upper()}", "Bearer clé"]


def _call(server: Server, method: str, path: str, authorization: str | None, **more: object) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    return httpx.request(method, f"{server.url}{path}", headers=headers, trust_env=False, timeout=60, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_without_a_key(server: Server, method: str, path: str) -> None:
    answer = _call(server, method, path, None)
    assert refusal(answer, 401)["error"] == "Missing Authorization header"
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = _call(server, method, path, "Bearer wrong")
    assert refusal(answer, 403)["error"] == "Invalid API key"


@pytest.mark.parametrize("authorization", NOT_BEARER)
def test_what_is_no_bearer_header_is_missing(server: Server, authorization: str | None) -> None:
    answer = _call(server, "GET", "/sessions", authorization)
    assert refusal(answer, 401)["error"] == "Missing Authorization header"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("authorization", WRONG)
def test_wrong_keys(server: Server, authorization: str) -> None:
    assert refusal(_call(server, "GET", "/sessions", authorization), 403)["error"] == "Invalid API key"


def test_the_scheme_is_case_insensitive(server: Server) -> None:
    assert _call(server, "GET", "/sessions", f"bearer {KEY}").status_code == 200


def test_before_the_body_is_looked_at(server: Server) -> None:
    refusal(_call(server, "POST", "/execute", None, content=b"{not json"), 401)
    refusal(_call(server, "POST", "/execute", "Bearer wrong", content=b"{not json"), 403)


def test_before_the_body_has_arrived(server: Server) -> None:
    """A caller without a key cannot make the server read: it is answered although the body never comes."""
    import socket

    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=120) as connection:
        head = "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_health_ignores_keys(server: Server) -> None:
    assert _call(server, "GET", "/health", "Bearer wrong").status_code == 200


def test_several_keys_and_none_is_logged(serve: Serve) -> None:
    keys = ["first-key-of-two", "second-key-of-two"]
    running = serve({"apiKeys": keys}, key=None)
    for key in keys:
        with running.client(key) as client:
            assert execute(client, "print(1)")["stdout"] == "1\n"
    _call(running, "GET", "/sessions", "Bearer an-attempt-with-a-wrong-key")
    log = running.log_text()
    assert not [secret for secret in [*keys, "an-attempt-with-a-wrong-key"] if secret in log]


def test_without_a_key_it_generates_and_prints_one(serve: Serve, tmp_path: Path) -> None:
    running = serve(None, key=None)
    words = {word.strip("\"'`,;:()") for word in running.log_text().split()}
    candidates = [word for word in words if len(word) >= 16 and word.isascii()]
    answers = [_call(running, "GET", "/sessions", f"Bearer {word}").status_code for word in candidates]
    assert answers.count(200) == 1


def test_listens_on_loopback_alone_unless_told(server: Server) -> None:
    """The suite sets the host to what is also the default; no other address of the machine answers."""
    port = int(server.url.rpartition(":")[2])
    with httpx.Client(trust_env=False, timeout=60) as client, pytest.raises(httpx.ConnectError):
        client.get(f"http://[::1]:{port}/health")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('{"maxConcurent": 3}', "maxConcurrent"),
        ('{"defaults": {"memorylimit": "1g"}}', "memoryLimit"),
        ('{"defaults": {"memoryLimit": "lots"}}', "memoryLimit"),
        ("{not json", "config.json"),
    ],
)
def test_a_wrong_configuration_stops_the_start(tmp_path: Path, config: str, named: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(config)
    command = [sys.executable, "-m", "isol8", "serve", "--config", str(file), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr
