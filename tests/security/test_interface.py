"""The server attacked through its own interface: paths, heads, bodies, events, other callers' sessions."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import httpx
import pytest

from tests.conftest import Serve
from tests.security import containment
from tests.security.conftest import api_process
from tests.support import machine
from tests.support.calls import (
    body,
    delete,
    download,
    events,
    execute,
    joined,
    read_to_end,
    refusal,
    refused,
    stdout,
    upload,
)
from tests.support.server import Server

MIB = 1 << 20


def _connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=120)


def test_links_lead_nowhere(client: httpx.Client) -> None:
    containment.links_lead_nowhere(client)


def test_links_lead_nowhere_in_a_session(client: httpx.Client, session: str) -> None:
    code = containment.LINKS + "os.symlink('/dev/shm', 'shm'); os.symlink('/tmp', 'tmp'); os.symlink('/etc/x', 'new')"
    assert execute(client, code, sessionId=session)["exitCode"] == 0
    for name in containment.LINKED:
        answer = client.get("/file", params={"sessionId": session, "path": f"/sandbox/{name}"})
        assert answer.status_code in (400, 404), (name, answer.text)
    for name in ("root/etc/owned", "root/usr/owned", "shm/owned", "root/proc/owned", "root/dev/owned"):
        assert upload(client, session, f"/sandbox/{name}", b"x").status_code in (400, 404), name
    # A link that is itself the target is replaced, never followed; one to the other writable place may be.
    for name in ("passwd", "memory", "endless", "new", "tmp/owned"):
        assert upload(client, session, f"/sandbox/{name}", b"mine").status_code == 200, name
        assert download(client, session, f"/sandbox/{name}") == b"mine"
    assert "mine" not in stdout(client, "print(open('/etc/passwd').read())", sessionId=session)


def test_links_in_the_way_of_a_request(client: httpx.Client, session: str) -> None:
    """What a session's program has made of its paths, a later request's `files` and program do not follow."""
    traps = (
        "import os\nfor name in ('main.js', 'main.sh', 'in'): os.symlink('/etc/passwd', name)\n"
        "os.remove('main.py'); os.symlink('/proc/self/exe', 'main.py'); os.mkfifo('pipe'); os.symlink('/usr', 'dir')"
    )
    execute(client, traps, sessionId=session)
    files = {"/sandbox/in": "given", "/sandbox/pipe": "given"}
    code = "print(open('in').read(), open('pipe').read(), open('main.py').read()[:5])"
    assert stdout(client, code, files=files, sessionId=session) == "given given print\n"
    refused(client, 400, body("print(1)", files={"/sandbox/dir/x": "x"}, sessionId=session), mentions="/sandbox/dir/x")


@pytest.mark.parametrize(
    "path",
    [
        "/sandbox/../etc/passwd",
        "/sandbox/./../../etc/passwd",
        "/sandbox/..",
        "/sandbox//..//etc/passwd",
        "/proc/self/environ",
        "/proc/self/root/sandbox/x",
        "/proc/self/fd/0",
        "/dev/stdin",
        "/sandbox\0/x",
        "/sandboxes/x",
        "sandbox/x",
        "~/x",
        "file:///sandbox/x",
        "/",
    ],
)
def test_paths_that_are_refused(client: httpx.Client, session: str, path: str) -> None:
    execute(client, "print(1)", sessionId=session)
    refused(client, 400, body("print(1)", files={path: "x"}), mentions="files")
    refused(client, 400, body("print(1)", outputPaths=[path]), mentions="outputPaths")
    refusal(upload(client, session, path, b"x"), 400, "path")
    refusal(client.get("/file", params={"sessionId": session, "path": path}), 400, "path")


@pytest.mark.parametrize(
    "name", ["a\r\nX-Injected: 1", "a/../b", "../../etc", "a b", "a\0b", "a%00b", "\u202ea", "a;rm -rf /", "$(id)", ""]
)
def test_names_that_are_injections(client: httpx.Client, name: str) -> None:
    refused(client, 400, body("print(1)", sessionId=name), mentions="sessionId")
    answer = client.get("/file", params={"sessionId": name, "path": "/sandbox/x"})
    refusal(answer, 400)
    assert "x-injected" not in answer.headers


def test_output_is_no_part_of_the_protocol(client: httpx.Client) -> None:
    """A program that prints what the server would say says it inside its own string."""
    forged = 'x\r\n\r\ndata: {"type":"exit","data":"0"}\n\nHTTP/1.1 200 OK\r\n\r\n\u2028\0\x1b[2J'
    received = events(client, body(f"import sys; sys.stdout.write({forged!r}); sys.exit(7)"))
    assert joined(received, "stdout") == forged
    assert [event["data"] for event in received if event["type"] == "exit"] == ["7"]
    with client.stream("POST", "/execute", json=body(f"print({forged!r})")) as answer:
        assert set(answer.headers) <= {"content-type", "content-length"}
        assert json.loads(answer.read())["stdout"] == forged + "\n"


def test_headers_do_not_reach_the_answer_or_the_program(client: httpx.Client, server: Server) -> None:
    injected = {"X-Forwarded-For": "6.6.6.6", "Host": "evil", "X-Session-Id": "s", "Cookie": "k=v", "Proxy": "http://x"}
    answer = client.post("/execute", json=body("import os; print(dict(os.environ))"), headers=injected)
    assert "evil" not in answer.text
    assert "6.6.6.6" not in answer.text
    raw = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with _connect(server) as connection:
        connection.sendall(raw)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def _endless_heads() -> Iterator[tuple[str, bytes, bytes]]:
    yield "headers", b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X: " + b"a" * 1000 + b"\r\n"
    yield "value", b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 1000
    yield "path", b"GET /", b"a" * 1000
    yield "trailer", b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 1000


@pytest.mark.parametrize(
    ("start", "repeated"), [entry[1:] for entry in _endless_heads()], ids=[e[0] for e in _endless_heads()]
)
def test_heads_without_end(server: Server, start: bytes, repeated: bytes) -> None:
    """Before anyone has shown a key, nothing may fill the server's memory."""
    before = machine.resident_bytes(api_process(server))
    sent = 0
    with _connect(server) as connection:
        connection.sendall(start)
        try:
            while sent < 64 * MIB:
                connection.sendall(repeated * 64)
                sent += len(repeated) * 64
        except ConnectionError:
            pass
        said = read_to_end(connection)
    assert sent < 8 * MIB
    # The answer is lost where the machine's reset overtakes it.
    assert b" 431 " in said.split(b"\r\n")[0] or b" 40" in said.split(b"\r\n")[0] or not said
    assert machine.resident_bytes(api_process(server)) - before < 16 * MIB


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 99999999999999999999999999",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"X-Name : spaced",
        b"X-\0Name: x",
        b"X-Name: a\0b",
        b"X-Name: a\rb",
        b": nameless",
        b"no colon",
    ],
)
def test_heads_that_two_servers_would_read_differently(server: Server, lines: bytes) -> None:
    """What smuggles a second request past whoever stands before this server is no request here."""
    smuggled = b"GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    head = b"POST /execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n"
    with _connect(server) as connection:
        connection.sendall(head % (server.key.encode(), lines) + smuggled)
        said = read_to_end(connection)
    assert said.startswith(b"HTTP/1.1 400 "), said
    assert said.count(b"HTTP/1.1 ") == 1
    assert list(json.loads(said.partition(b"\r\n\r\n")[2])) == ["error"]


@pytest.mark.parametrize(
    "target",
    [
        "/session/..%2f..%2fexecute",
        "/session/%2e%2e",
        "/session/../health",
        "/./health",
        "//health",
        "/health/..",
        "/health%00",
        "/HEALTH",
        "/health;x=1",
        "/%2fhealth",
        "http://other/nowhere",
    ],
)
def test_paths_of_the_interface_are_what_they_are(server: Server, target: str) -> None:
    """No other spelling of the one open route, or of any, reaches it without a key."""
    with _connect(server) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert read_to_end(connection).startswith(b"HTTP/1.1 401 ")


def test_slow_heads_and_bodies_hold_up_nobody(server: Server, client: httpx.Client) -> None:
    head = f"POST /execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nContent-Length: 1000\r\n\r\n{{"
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(_connect(server))) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall((head if number % 2 else head[:60]).encode())
        for _ in range(3):
            for connection in slow[:20]:
                connection.sendall(b" ")
            assert stdout(client, "print('served')") == "served\n"
    assert stdout(client, "print('served')") == "served\n"


def test_a_body_that_never_comes_without_a_key(server: Server) -> None:
    with _connect(server) as connection:
        connection.sendall(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 1_000_000,
        b'{"request":' * 100_000,
        b'{"request": {"code": "print(1)", "runtime": "python", "env": ' + b'{"a":' * 50_000,
        b'{"request": {"code": "1", "runtime": "python", "timeoutMs": 1' + b"0" * 1_000_000 + b"}}",
        b'{"request": {"code": "1", "runtime": "python", "timeoutMs": 1e999999999}}',
        b'{"request": {"code": "1", "runtime": "python", "timeoutMs": NaN}}',
        b'{"request": {"code": "1", "runtime": "python", "code": ["2"]}}',
        b'{"request": {"code": "\\ud800", "runtime": "python"}}',
        b'{"request": {"code": "1", "runtime": "python", "env": {' + b'"A": "x", ' * 300_000 + b'"A": 5}}}',
        b'{"request": {"code": "1", "runtime": "python", "files": {"/sandbox/a": {"type": "Buffer", "data": ['
        + b"0, " * 5_000_000
        + b'"x"]}}}}',
        b'{"request": {"code": "1", "runtime": "python", "outputPaths": [' + b'"/tmp/a", ' * 300_000 + b'"/tmp/a"]}}',
        b'{"request": {"code": "1", "runtime": "python", "env": {"A": "' + b"\\u0041" * 1_000_000 + b'"}}}',
        b" " * 50_000_000 + b"{}",
        b'{"request": {"code": "1", "runtime": "python", "files": {'
        + b",".join(b'"/sandbox/%d": ""' % n for n in range(200_000))
        + b"}}}",
        b'{"request": {"code": "1", "runtime": "python", "__proto__": {"x": 1}}}',
        b"\xff\xfe{\x00}\x00",
        b"\x1f\x8b\x08" + bytes(1000),
    ],
    ids=[
        "arrays",
        "objects",
        "env",
        "digits",
        "exponent",
        "nan",
        "twice",
        "surrogate",
        "same",
        "numbers",
        "paths",
        "escapes",
        "spaces",
        "files",
        "proto",
        "utf16",
        "gzip",
    ],
)
def test_json_bombs(client: httpx.Client, server: Server, bomb: bytes) -> None:
    begun = machine.cpu_seconds(api_process(server))
    peak = machine.resident_bytes(api_process(server))
    answer = client.post("/execute", content=bomb, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 403), answer.text[:300]
    refusal(answer, answer.status_code)
    assert len(answer.content) < 2000
    assert machine.cpu_seconds(api_process(server)) - begun < 10
    assert machine.resident_bytes(api_process(server)) - peak < 64 * MIB


def test_100_000_small_events(client: httpx.Client, server: Server) -> None:
    before = machine.resident_bytes(api_process(server))
    code = "import os\nfor n in range(100_000): os.write(1 + n % 2, b'.')"
    received = events(client, body(code))
    assert (len(joined(received, "stdout")), len(joined(received, "stderr"))) == (50_000, 50_000)
    assert received[-1]["type"] == "exit"
    assert machine.resident_bytes(api_process(server)) - before < 64 * MIB


def test_sessions_of_other_keys_do_not_exist(serve: Serve) -> None:
    running = serve({"apiKeys": ["first-key", "second-key"]}, key=None)
    with running.client("first-key") as first, running.client("second-key") as second:
        execute(first, "open('secret', 'w').write('first')", sessionId="same")
        where = {"sessionId": "same", "path": "/sandbox/secret"}
        refusal(second.get("/file", params=where), 404, "Session not found")
        refusal(upload(second, "same", "/sandbox/secret", b"second"), 404, "Session not found")
        assert second.get("/sessions").json() == {"sessions": []}
        delete(second, "same")
        assert download(first, "same", "/sandbox/secret") == b"first"
        # The same name under the other key is another session.
        assert stdout(second, "import os; print(os.listdir())", sessionId="same") == "['main.py']\n"
        execute(second, "open('secret', 'w').write('second')", sessionId="same")
        with ThreadPoolExecutor(2) as pool:
            contents = list(pool.map(lambda caller: download(caller, "same", "/sandbox/secret"), (first, second)))
        assert contents == [b"first", b"second"]
        delete(second, "same")
        assert stdout(first, "print(open('secret').read())", sessionId="same") == "first\n"


@pytest.mark.parametrize("runtime_name", ["python", "bash", "node"])
def test_nothing_of_the_servers_environment(serve: Serve, runtime_name: str) -> None:
    """No variable of the server's, in no process a program can look at, nor in what it inherited as memory."""
    secret = "ISOLATED-f3b0c44298fc1c14"
    running = serve(environment={"AWS_SECRET_ACCESS_KEY": secret, "SSH_AUTH_SOCK": f"/tmp/{secret}"})
    code = {
        "bash": "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/self/maps 2>/dev/null | tr '\\0' '\\n'",
        "node": "console.log(process.env, require('fs').readFileSync('/proc/self/environ', 'utf8'))",
        "python": "import os, re, sys\nprint(os.environ, sys.argv)\n"
        "for line in open('/proc/self/maps'):\n"
        "    start, end = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "    if 'r' not in line.split()[1] or '[v' in line: continue\n"
        "    with open('/proc/self/mem', 'rb') as memory:\n"
        "        memory.seek(start); content = memory.read(end - start)\n"
        "    found = re.search(rb'[I]SOLATED-f3b0|SERVER_ONLY[_]MARK', content)\n"
        "    if found: print('FOUND', found, line)",
    }[runtime_name]
    with running.client() as client:
        result = execute(client, code, runtime_name)
        assert result["exitCode"] == 0, result
        for word in (secret, running.key, running.mark, "FOUND", "ISOL8_"):
            assert word not in result["stdout"], word
        # What was there would be found.
        planted = execute(client, code, runtime_name, env={"PLANTED": secret})["stdout"]
        assert secret in planted
        assert ("FOUND" in planted) == (runtime_name == "python")
