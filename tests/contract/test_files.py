"""POST /file and GET /file: whole or not at all, inside the sandbox and as its user."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.calls import download, execute, refusal, refused, upload


@pytest.fixture
def live(client: httpx.Client, session: str) -> str:
    """A session that exists."""
    execute(client, "print(1)", sessionId=session)
    return session


def test_round_trip(client: httpx.Client, live: str) -> None:
    content = bytes(range(256)) * 100
    for path in ("/sandbox/a.bin", "/sandbox/deep/er/b.bin", "/tmp/c.bin", "/sandbox/ünï 🙂 name"):
        answer = upload(client, live, path, content)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert download(client, live, path) == content


def test_an_empty_file(client: httpx.Client, live: str) -> None:
    assert upload(client, live, "/sandbox/empty", b"").status_code == 200
    assert download(client, live, "/sandbox/empty") == b""


def test_programs_and_callers_see_the_same_files(client: httpx.Client, live: str) -> None:
    upload(client, live, "/sandbox/in.txt", b"given")
    code = "open('/sandbox/out.txt', 'w').write(open('/sandbox/in.txt').read() + '!'); import os; os.remove('in.txt')"
    assert execute(client, code, sessionId=live)["exitCode"] == 0
    assert download(client, live, "/sandbox/out.txt") == b"given!"
    refusal(client.get("/file", params={"sessionId": live, "path": "/sandbox/in.txt"}), 404, "File not found: ")


def test_an_uploaded_file_replaces_another(client: httpx.Client, live: str) -> None:
    upload(client, live, "/sandbox/x", b"a long first version")
    upload(client, live, "/sandbox/x", b"short")
    assert download(client, live, "/sandbox/x") == b"short"


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"path": "/sandbox/x", "content": ""}, "sessionId"),
        ({"sessionId": "s", "content": ""}, "path"),
        ({"sessionId": "s", "path": "/sandbox/x"}, "content"),
        ({"sessionId": "s", "path": "/sandbox/x", "content": 5}, "content"),
        ({"sessionId": "s", "path": "/sandbox/x", "content": "not base64!"}, "content"),
        ({"sessionId": "s", "path": "/sandbox/x", "content": "YQ"}, "content"),
        ({"sessionId": "s", "path": "relative", "content": ""}, "path"),
        ({"sessionId": "s", "path": "/etc/passwd", "content": ""}, "path"),
        ({"sessionId": "s", "path": "/sandbox/../etc/x", "content": ""}, "path"),
        ({"sessionId": "s", "path": "/sandbox/a\0b", "content": ""}, "path"),
        ({"sessionId": "s", "path": "", "content": ""}, "path"),
        ({"sessionId": "a b", "path": "/sandbox/x", "content": ""}, "sessionId"),
        ({"sessionId": "s", "path": "/sandbox/x", "content": "", "mode": "755"}, "mode"),
    ],
)
def test_bad_uploads(client: httpx.Client, sent: object, named: str) -> None:
    refused(client, 400, sent, path="/file", mentions=named)


@pytest.mark.parametrize("path", ["relative", "/etc/passwd", "/sandbox/../etc/passwd", "/proc/self/environ"])
def test_bad_downloads(client: httpx.Client, live: str, path: str) -> None:
    refusal(client.get("/file", params={"sessionId": live, "path": path}), 400, "path")


def test_missing_files_and_directories(client: httpx.Client, live: str) -> None:
    answer = client.get("/file", params={"sessionId": live, "path": "/sandbox/missing"})
    assert refusal(answer, 404)["error"] == "File not found: /sandbox/missing"
    execute(client, "import os; os.mkdir('/sandbox/dir')", sessionId=live)
    refusal(client.get("/file", params={"sessionId": live, "path": "/sandbox/dir"}), 400)
    refusal(upload(client, live, "/sandbox/dir", b"x"), 400)
    refusal(upload(client, live, "/sandbox/main.py/below", b"x"), 400)


def test_links_lead_nowhere_outside(client: httpx.Client, live: str, server: object) -> None:
    code = (
        "import os\n"
        "os.symlink('/etc/shadow', 'shadow'); os.symlink('/etc', 'etc'); os.symlink('/', 'root')\n"
        "os.symlink('/proc/1/environ', 'first'); os.mkfifo('pipe'); os.symlink('/dev/zero', 'zero')"
    )
    assert execute(client, code, sessionId=live)["exitCode"] == 0
    for name in ("shadow", "etc/shadow", "first", "pipe", "zero", "root/root/.profile"):
        answer = client.get("/file", params={"sessionId": live, "path": f"/sandbox/{name}"})
        assert answer.status_code in (400, 404), (name, answer.text)
    for name in ("etc/owned", "root/owned"):
        answer = upload(client, live, f"/sandbox/{name}", b"x")
        assert answer.status_code in (400, 403, 404), (name, answer.text)
    found = execute(client, "import os; print(os.path.exists('/etc/owned'), os.path.exists('/owned'))", sessionId=live)
    assert found["stdout"] == "False False\n"


def test_a_full_sandbox_is_507_and_nothing_is_half_written(client: httpx.Client, live: str) -> None:
    options = {"sandboxSize": "4m"}
    assert execute(client, "print(1)", sessionId=live, options=options)["exitCode"] == 0
    upload(client, live, "/sandbox/kept", b"first version")
    refusal(upload(client, live, "/sandbox/big", b"x" * (6 << 20)), 507)
    refusal(upload(client, live, "/sandbox/kept", b"y" * (6 << 20)), 507)
    assert download(client, live, "/sandbox/kept") == b"first version"
    code = "import os; print(sorted(os.listdir('/sandbox'))); open('/sandbox/fits', 'wb').write(b'x' * (3 << 20))"
    result = execute(client, code, sessionId=live, options=options)
    assert (result["stdout"], result["stderr"]) == ("['kept', 'main.py']\n", "")


@pytest.mark.parametrize("path", ["/sandbox/large", "/tmp/large"])
def test_more_than_the_memory_is_507_too(client: httpx.Client, session: str, path: str) -> None:
    """Before any of it is sent: the kernel might end the session for it."""
    options = {"memoryLimit": "64m", "sandboxSize": "256m", "tmpSize": "256m"}
    execute(client, "open('kept', 'w').write('kept')", sessionId=session, options=options)
    refusal(upload(client, session, path, bytes(80 << 20)), 507)
    assert download(client, session, "/sandbox/kept") == b"kept"


def test_four_concurrent_uploads_leave_four_intact_files(client: httpx.Client, live: str) -> None:
    contents = [hashlib.sha512(bytes([n])).digest() * (1 << 14) for n in range(4)]
    barrier = threading.Barrier(4)

    def put(number: int) -> int:
        barrier.wait()
        return upload(client, live, f"/sandbox/file-{number}", contents[number]).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(put, range(4))) == [200] * 4
    for number, content in enumerate(contents):
        assert download(client, live, f"/sandbox/file-{number}") == content


def test_concurrent_uploads_to_one_path_leave_one_whole(client: httpx.Client, live: str) -> None:
    contents = [bytes([65 + n]) * (1 << 20) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda c: upload(client, live, "/sandbox/same", c).status_code, contents))
    assert statuses == [200] * 4
    assert download(client, live, "/sandbox/same") in contents


def test_20_megabytes(client: httpx.Client, live: str) -> None:
    content = hashlib.sha512(b"file").digest() * (20 << 14)
    assert upload(client, live, "/sandbox/big", content).status_code == 200
    assert download(client, live, "/sandbox/big") == content


def test_a_download_sees_a_file_before_or_after_an_upload(client: httpx.Client, live: str) -> None:
    versions = [bytes([48 + n]) * 500_000 for n in range(2)]
    upload(client, live, "/sandbox/x", versions[0])

    def alternate() -> None:
        for number in range(20):
            upload(client, live, "/sandbox/x", versions[number % 2])

    thread = threading.Thread(target=alternate)
    thread.start()
    while thread.is_alive():
        assert download(client, live, "/sandbox/x") in versions
    thread.join()


def test_session_named_twice_or_path_with_odd_characters(client: httpx.Client, live: str) -> None:
    name = "/sandbox/a'b\"c;$(touch x)&|`id`\\ \t"
    assert upload(client, live, name, b"odd").status_code == 200
    assert download(client, live, name) == b"odd"
    assert execute(client, "import os; print(os.path.exists('x'))", sessionId=live)["stdout"] == "False\n"
