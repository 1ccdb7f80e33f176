"""Fetching programs: from a real server on loopback, which the rule about addresses must be told to allow."""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from isol8.errors import Forbidden, InvalidRequest
from isol8.service.fetch import Fetcher, is_public

PROGRAM = b"print('fetched')"


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/program?x=1": 200, "/empty": 200, "/moved": 302}.get(self.path, 404)
        content = PROGRAM if self.path.startswith("/program") else b""
        self.send_response(status)
        self.send_header("Location", "/program?x=1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def fetch(url: str, sha256: str | None = None, *, insecure: bool = True, max_bytes: int = 100) -> bytes:
    return await Fetcher(max_bytes, lambda address: True).fetch(url, sha256, insecure=insecure)


async def test_a_program(url: str) -> None:
    assert await fetch(f"{url}/program?x=1") == PROGRAM
    assert await fetch(f"{url}/program?x=1", hashlib.sha256(PROGRAM).hexdigest().upper()) == PROGRAM


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/moved", "status 302"), ("/nowhere", "status 404"), ("/empty", "an empty program")],
)
async def test_what_is_no_program(path: str, sentence: str, url: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await fetch(url + path)


async def test_something_else_than_was_said(url: str) -> None:
    with pytest.raises(InvalidRequest, match="codeHash"):
        await fetch(f"{url}/program?x=1", "00")
    with pytest.raises(Forbidden, match="maxCodeSize"):
        await fetch(f"{url}/program?x=1", max_bytes=3)


@pytest.mark.parametrize(
    "bad",
    ["", "x", "ftp://a/", "https://", "https://a@b/", "https://a:0/", "https://a:x/", "https://a/ b", "https://é/"],
)
async def test_what_is_no_url(bad: str) -> None:
    with pytest.raises(InvalidRequest, match="must be an https URL"):
        await fetch(bad)


async def test_http_must_be_allowed() -> None:
    with pytest.raises(InvalidRequest, match="allowInsecureCodeUrl"):
        await fetch("http://a/", insecure=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "2130706433"]
)
async def test_the_servers_own_network_is_out_of_reach(host: str) -> None:
    with pytest.raises(Forbidden, match="not public"):
        await Fetcher(100).fetch(f"http://{host}/", None, insecure=True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
