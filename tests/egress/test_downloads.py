"""Files that the proxy of builds keeps: what one sandbox does, no other may ever see in what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.egress import world
from tests.egress.conftest import UID, Surroundings, allowing
from tests.egress.messages import HOST, OTHER, tunnel
from tests.egress.origins import Origins, Seen
from tests.egress.shelf import (
    FOREVER,
    STRANGER,
    TAGGED,
    TOTAL,
    Sandbox,
    Shelf,
    building,
    file,
    named,
    request,
    shelving,
    whole,
)

TRUE = bytes(range(256)) * 1000
FALSE = b"false" * 1000
GZIPPED = gzip.compress(FALSE)
WHEEL = "/files/victim-1.0-py3-none-any.whl"


@pytest.fixture
def shelf(surroundings: Surroundings, tmp_path: Path) -> Iterator[Shelf]:
    with shelving(surroundings, tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _zone(origins: Origins) -> None:
    origins.zone[STRANGER] = [world.PUBLIC]


def asked(origins: Origins, path: str) -> int:
    return sum(seen.path == path for seen in origins.seen)


# What is kept


@pytest.mark.parametrize("port", [443, 80])
@pytest.mark.parametrize("path", [WHEEL, "/s-1.0.tar.gz", "/s-1.0.zip", "/p/-/p-1.0.0.tgz", f"{WHEEL}.metadata?x=1"])
async def test_a_file_that_never_changes_is_fetched_once(shelf: Shelf, origins: Origins, port: int, path: str) -> None:
    origins.answers[path] = file(TRUE, FOREVER, "Content-Type: application/x-thing")
    for _ in range(3):
        async with shelf.sandbox() as sandbox:
            said = await sandbox.speak(request(path, port=port), port=port)
        assert whole(said) == (200, TRUE)
        assert b"\r\ncontent-type: application/x-thing\r\n" in said.lower()
    assert len(origins.connections) == asked(origins, path) == 1


@pytest.mark.parametrize("port", [443, 80])
async def test_a_file_that_may_change_is_asked_about(shelf: Shelf, origins: Origins, port: int) -> None:
    origins.answers[WHEEL] = file(TRUE, TAGGED)
    assert [await shelf.get(WHEEL, port=port) for _ in range(2)] == [(200, TRUE)] * 2
    assert [seen.fields.get("if-none-match") for seen in origins.seen] == [None, '"1"']
    origins.answers[WHEEL] = file(FALSE, 'ETag: "2"')
    assert [await shelf.get(WHEEL, port=port) for _ in range(2)] == [(200, FALSE)] * 2
    assert [seen.fields.get("if-none-match") for seen in origins.seen[2:]] == ['"1"', '"2"']
    assert len(shelf.files()) == 1


async def test_a_file_whose_digest_is_in_its_address(shelf: Shelf, origins: Origins) -> None:
    path, wrong = named(TRUE), named(b"something else")
    origins.answers |= {path: file(TRUE), wrong: file(FALSE), f"{path}.metadata": file(b"Name: a")}
    for _ in range(2):
        assert await shelf.get(path) == (200, TRUE)
        assert await shelf.get(f"{path}.metadata") == (200, b"Name: a")
        assert await shelf.get(wrong) == (200, FALSE)  # nobody's to hold back, but not kept
    assert [asked(origins, each) for each in (path, f"{path}.metadata", wrong)] == [1, 1, 2]


async def test_one_connection_serves_copies_and_what_is_none(shelf: Shelf, origins: Origins) -> None:
    origins.answers |= {WHEEL: file(TRUE, FOREVER), "/simple/": file(b"page", TAGGED)}
    paths = [WHEEL, "/simple/", WHEEL, "/simple/"]
    sent = b"".join(request(path, last=False) for path in paths) + request(WHEEL)
    async with shelf.sandbox() as sandbox:
        said = await sandbox.speak(sent)
    assert said.count(b"HTTP/1.1 200 ") == 5
    assert said.count(TRUE) == 3
    assert (asked(origins, WHEEL), asked(origins, "/simple/")) == (1, 2)


async def test_two_at_once_and_two_proxies_with_one_directory(
    surroundings: Surroundings, shelf: Shelf, origins: Origins, tmp_path: Path
) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    with shelving(surroundings, tmp_path) as other:
        got = await asyncio.gather(*(each.get(WHEEL) for each in [shelf, other] * 4))
        assert got == [(200, TRUE)] * 8
        assert [await each.get(WHEEL) for each in (shelf, other)] == [(200, TRUE)] * 2
    assert len(shelf.files()) == 1


# What is not


BROKEN = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%sContent-Length: 5000\r\n\r\n" % f"{FOREVER}\r\n".encode()
CHUNKED = b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n5\r\nfalse\r\n0\r\n\r\n" % f"{FOREVER}\r\n".encode()
BOTH = CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\nTransfer")
HALF: Callable[[Seen], bytes] = lambda _: BROKEN.replace(b"Connection: close\r\n", b"") + FALSE[:400]  # noqa: E731
OPEN = f"HTTP/1.1 200 OK\r\nConnection: close\r\n{FOREVER}\r\n\r\n".encode() + FALSE
ANSWERS = {
    "nothing said": file(FALSE),
    "an age alone": file(FALSE, "Cache-Control: max-age=99999"),
    "no age": file(FALSE, "Cache-Control: immutable"),
    "two ages": file(FALSE, "Cache-Control: immutable, max-age=1, max-age=99999"),
    "no store": file(FALSE, FOREVER, "Cache-Control: no-store"),
    "private": file(FALSE, FOREVER + ", private"),
    "a weak tag": file(FALSE, 'ETag: W/"1"'),
    "no tag": file(FALSE, "ETag: 1"),
    "varying": file(FALSE, FOREVER, "Vary: Accept, *"),
    "encoded": file(GZIPPED, FOREVER, "Content-Encoding: gzip"),
    "not found": file(FALSE, FOREVER, TAGGED, status="404 Not Found"),
    "an error": file(FALSE, FOREVER, TAGGED, status="500 Oh"),
    "elsewhere": file(FALSE, FOREVER, f"Location: https://{OTHER}/", status="302 Found"),
    "for ever elsewhere": file(FALSE, FOREVER, f"Location: https://{OTHER}/", status="301 Moved"),
    "a part": file(FALSE, FOREVER, "Content-Range: bytes 0-9/10", status="206 Partial Content"),
    "less than promised": lambda _: BROKEN + FALSE[:400],
    "nothing of it": lambda _: BROKEN,
    "in chunks": lambda _: CHUNKED,
    "two lengths": lambda _: BOTH,
    "until the end": lambda _: OPEN,
    "not changed": lambda _: b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "something else": lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "nonsense": lambda _: b"NONSENSE\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_that_are_not_kept(shelf: Shelf, origins: Origins, name: str) -> None:
    origins.answers[WHEEL] = ANSWERS[name]
    status, said = await shelf.get(WHEEL)
    assert status != 200 or FALSE.startswith(said) or said == GZIPPED
    assert list(shelf.directory.iterdir()) == []
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    assert await shelf.get(WHEEL) == (200, TRUE)


REQUESTS = {
    "a part": request(WHEEL, "Range: bytes=0-4"),
    "a condition": request(WHEEL, 'If-None-Match: "1"'),
    "a date": request(WHEEL, "If-Modified-Since: Sun, 29 Nov 2026 05:12:10 GMT"),
    "a body": request(WHEEL, "Content-Length: 5") + b"hello",
    "chunks": request(WHEEL, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "post": request(WHEEL, "Content-Length: 0", method="POST"),
    "head": request(WHEEL, method="HEAD"),
    "a cookie": request(WHEEL, "Cookie: a=b"),
    "two users": request(WHEEL, "Authorization: Basic YTpi", "Authorization: Basic YzpkCg=="),
    "another kind": request("/simple/victim/"),
    "a kind in the query": request("/simple/victim/?a.whl"),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests_for_something_else(shelf: Shelf, origins: Origins, name: str) -> None:
    path = REQUESTS[name].split(b" ")[1].decode()
    origins.answers[path] = lambda seen: file(b"" if seen.method == "HEAD" else FALSE, FOREVER, TAGGED)(seen)
    async with shelf.sandbox() as sandbox:
        assert b" 200 " in (await sandbox.speak(REQUESTS[name])).partition(b"\r\n")[0] or name == "a condition"
    assert shelf.files() == []
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    assert await shelf.get(WHEEL) == (200, TRUE)


# Poison


FIELDS = [
    "X-Forwarded-Host: evil.example.com", "X-Original-URL: /files/evil.whl", "X-Rewrite-URL: /files/evil.whl",
    "X-HTTP-Method-Override: POST", "Accept: application/evil", "Accept-Encoding: gzip, br", "Accept-Language: ev",
    "User-Agent: evil", "Referer: evil", "Forwarded: host=evil", "Via: evil", "TE: trailers", "Origin: evil",
    "Proxy-Authorization: Basic ZXZpbA==", "Connection: authorization", "Pragma: evil", "Cache-Control: no-transform",
]  # fmt: skip


async def test_no_field_of_a_sandbox_reaches_the_host(shelf: Shelf, origins: Origins) -> None:
    """A host that answers by any field at all; the one that was poisoned with it, and another."""

    def deceived(seen: object) -> bytes:
        return file(FALSE if b"evil" in seen.raw.lower() else TRUE, FOREVER)(seen)  # type: ignore[attr-defined, arg-type]

    origins.answers[WHEEL] = deceived
    async with shelf.sandbox() as sandbox:
        await sandbox.speak(request(WHEEL, *FIELDS))
    assert await shelf.get(WHEEL) == (200, TRUE)
    assert {line.partition(":")[0].lower() for line in origins.seen[0].raw.decode().split("\r\n")[1:-2]} == {
        "host", "user-agent", "accept", "accept-encoding",
    }  # fmt: skip


async def test_a_host_that_loses_count_of_requests(shelf: Shelf, origins: Origins) -> None:
    """It takes the body of one for the next request, whose answer must not become that of the next file."""
    origins.answers |= {WHEEL: file(TRUE, FOREVER), "/files/evil.whl": file(FALSE, FOREVER), "/page": file(b"page")}
    origins.blind = True
    hidden = f"GET /files/evil.whl HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    first = request("/page", f"Content-Length: {len(hidden)}", last=False) + hidden
    async with shelf.sandbox() as sandbox:
        await sandbox.speak(first + request(WHEEL))
    assert asked(origins, "/files/evil.whl") == 1
    assert await shelf.get(WHEEL) == (200, TRUE)


async def test_users_have_files_of_their_own(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = lambda seen: file(seen.fields.get("authorization", "nobody").encode(), FOREVER)(seen)
    for _ in range(2):
        assert await shelf.get(WHEEL, "Authorization: Basic YTpi") == (200, b"Basic YTpi")
        assert await shelf.get(WHEEL, "Authorization: Bearer x") == (200, b"Bearer x")
        assert await shelf.get(WHEEL) == (200, b"nobody")
    assert len(origins.seen) == 3
    assert not any(b"Bearer" in path.name.encode() or b"YTpi" in path.read_bytes()[:200] for path in shelf.files())


async def test_every_address_has_a_file_of_its_own(shelf: Shelf, origins: Origins) -> None:
    """Host, scheme, path as it is written, and query."""
    for path in (WHEEL, f"{WHEEL}?a", f"{WHEEL}?b", f"//{WHEEL}", WHEEL.replace("v", "%76"), f"/x/..{WHEEL}"):
        origins.answers[path] = lambda seen: file(f"{seen.fields['host']} {seen.name} {seen.path}".encode(), FOREVER)(
            seen
        )
        for host in (HOST, OTHER):
            for _ in range(2):
                assert await shelf.get(path, host=host) == (200, f"{host} {host} {path}".encode())
            assert await shelf.get(path, host=host, port=80) == (200, f"{host} None {path}".encode())


async def test_a_host_and_its_tunnel_must_agree(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(FALSE, FOREVER)
    async with shelf.sandbox() as sandbox:
        said = await sandbox.speak(request(WHEEL, host=OTHER), HOST)
        assert b" 400 " in said.partition(b"\r\n")[0]
        said = await sandbox.speak(request(f"http://{OTHER}{WHEEL}", host=HOST), HOST)
        assert b" 400 " in said.partition(b"\r\n")[0]
    assert origins.seen == []


async def test_a_host_whose_certificate_is_not_valid(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(FALSE, FOREVER)
    status, said = await shelf.get(WHEEL, host=STRANGER)
    assert (status, origins.seen) == (502, [])
    assert b"certificate is not valid" in said
    assert shelf.files() == []


async def test_certificates_of_a_policy_count_for_its_gates_alone(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    other = dataclasses.replace(shelf, certificates=origins.stranger.certificate.decode())
    assert await other.get(WHEEL, host=STRANGER) == (200, TRUE)
    assert (await other.get("/new.whl"))[0] == 502
    assert (await shelf.get("/other.whl", host=STRANGER))[0] == 502


async def test_a_copy_is_no_way_round_a_policy(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    assert await shelf.get(WHEEL) == (200, TRUE)
    assert await shelf.get(WHEEL, port=80) == (200, TRUE)
    async with shelf.sandbox(dataclasses.replace(building(), allow=building(OTHER).allow)) as sandbox:
        assert (await sandbox.get(WHEEL, port=80))[0] == 403
        async with sandbox.connection() as (reader, writer):
            writer.write(tunnel())
            assert b" 403 " in await reader.read()
    async with shelf.sandbox(building(max_bytes=1000)) as sandbox:
        status, said = await sandbox.get(WHEEL)
        assert (status, said.count(TRUE)) == (0, 0)


async def test_sandboxes_without_it_have_their_own_tls_and_no_copies(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    assert await shelf.get(WHEEL, port=80) == (200, TRUE)
    async with shelf.sandbox(allowing(HOST)) as sandbox:
        assert sandbox.authority == b""
        assert await sandbox.get(WHEEL, port=80) == (200, TRUE)
    assert asked(origins, WHEEL) == 2


# On disk


async def test_the_files_are_the_proxys_alone(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    assert await shelf.get(WHEEL) == (200, TRUE)
    (kept,) = shelf.files()
    for path, mode in ((shelf.directory, 0o700), (kept, 0o600)):
        status = path.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (UID, mode)


async def test_files_that_were_changed_are_fetched_again(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = file(TRUE, FOREVER)
    for change in (
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data.replace(bytes(range(256)), bytes(256), 1),
        lambda data: data.replace(b'"until": 1', b'"until": 2'),
        lambda data: data[:30],
        lambda _: b"",
    ):
        before = asked(origins, WHEEL)
        assert await shelf.get(WHEEL) == (200, TRUE)
        (kept,) = shelf.files()
        kept.write_bytes(change(kept.read_bytes()))
        assert await shelf.get(WHEEL) == (200, TRUE)
        assert asked(origins, WHEEL) > before
    (kept,) = shelf.files()
    kept.unlink()
    kept.symlink_to("/etc/passwd")
    assert await shelf.get(WHEEL) == (200, TRUE)
    kept.unlink()
    os.mkfifo(kept)  # whoever opens it must not wait for a writer
    os.mkfifo(shelf.directory / ".making-0")
    assert await shelf.get(WHEEL) == (200, TRUE)


async def test_a_file_under_anothers_name(shelf: Shelf, origins: Origins) -> None:
    other = "/files/evil.whl"
    origins.answers |= {WHEEL: file(TRUE, FOREVER), other: file(FALSE, FOREVER)}
    assert await shelf.get(WHEEL) == (200, TRUE)
    (kept,) = shelf.files()
    assert await shelf.get(other) == (200, FALSE)
    (evil,) = set(shelf.files()) - {kept}
    evil.rename(kept)
    assert await shelf.get(WHEEL) == (200, TRUE)


async def test_the_least_recently_used_make_room(shelf: Shelf, origins: Origins) -> None:
    third = TOTAL // 3 - 2000
    paths = [f"/{name}.whl" for name in "abcd"]
    for path in paths:
        origins.answers[path] = file(path.encode() + bytes(third), FOREVER)
    for path in (*paths[:3], paths[0], paths[3], paths[0]):
        assert (await shelf.get(path))[0] == 200
    assert [asked(origins, path) for path in paths] == [1, 1, 1, 1]
    assert len(shelf.files()) == 3
    await shelf.get(paths[1])
    assert asked(origins, paths[1]) == 2
    origins.answers["/huge.whl"] = file(bytes(TOTAL), FOREVER)
    assert [await shelf.get("/huge.whl") for _ in range(2)] == [(200, bytes(TOTAL))] * 2
    assert asked(origins, "/huge.whl") == 2
    assert sum(path.stat().st_size for path in shelf.directory.iterdir()) <= TOTAL


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_is_nobodys_trouble(surroundings: Surroundings, origins: Origins, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "downloads"), shelving(surroundings, tmp_path) as shelf:
        origins.answers |= {WHEEL: file(TRUE, FOREVER), "/small.whl": file(FALSE, FOREVER)}
        assert [await shelf.get(WHEEL) for _ in range(2)] == [(200, TRUE)] * 2
        assert [await shelf.get("/small.whl") for _ in range(2)] == [(200, FALSE)] * 2
        assert (asked(origins, WHEEL), asked(origins, "/small.whl")) == (2, 1)
        assert len(list(shelf.directory.iterdir())) == 1


async def test_a_directory_that_cannot_be_used(surroundings: Surroundings, origins: Origins, tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("a file")
    with shelving(surroundings, tmp_path) as shelf:
        origins.answers[WHEEL] = file(TRUE, FOREVER)
        assert [await shelf.get(WHEEL, port=80) for _ in range(2)] == [(200, TRUE)] * 2
        assert asked(origins, WHEEL) == 2


async def _begun(sandbox: Sandbox, waiting: contextlib.AsyncExitStack) -> None:
    """It has got some of a file."""
    reader, writer = await waiting.enter_async_context(sandbox.connection())
    writer.write(request(WHEEL, port=80))
    await reader.readuntil(b"\r\n\r\n")


async def test_whoever_leaves_half_way_leaves_nothing(shelf: Shelf, origins: Origins) -> None:
    origins.answers[WHEEL] = HALF
    async with shelf.sandbox() as sandbox, contextlib.AsyncExitStack() as waiting:
        await _begun(sandbox, waiting)
        assert len(list(shelf.directory.iterdir())) == 1
    assert list(shelf.directory.iterdir()) == []


async def test_what_a_killed_proxy_leaves_is_cleared(
    surroundings: Surroundings, origins: Origins, tmp_path: Path
) -> None:
    """And nothing of one that lives."""
    origins.answers[WHEEL] = HALF
    with shelving(surroundings, tmp_path) as living, shelving(surroundings, tmp_path, killed=True) as dying:
        async with living.sandbox() as staying, dying.sandbox() as sandbox, contextlib.AsyncExitStack() as waiting:
            await _begun(staying, waiting)
            await _begun(sandbox, waiting)
            dying.proxy.process.kill()
            dying.proxy.process.wait(20)
            assert len(list(living.directory.iterdir())) == 2
            with shelving(surroundings, tmp_path) as again:
                origins.answers[WHEEL] = file(TRUE, FOREVER)
                assert await again.get(WHEEL, port=80) == (200, TRUE)
                assert len(list(again.directory.iterdir())) == 2
