"""A package index on this machine's loopback: PyPI's simple API, and npm's registry. It notes who asks for what.

Its files have tags (ETag), and so may be kept; the tag is asked about whenever one of them is wanted.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from isol8.egress.authority import Authority
from tests.packages.wheels import wheel, wheel_name


class Index:
    """`url` is where it listens. A closed gate holds up every file; requests are noted before that. `sent`: how often
    each file went out. `authority` signs for it, if it speaks TLS."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self._pages: dict[str, list[str]] = {}
        self._npm: dict[str, dict[str, bytes]] = {}
        index = self

        class Handler(BaseHTTPRequestHandler):
            """Answers with what the index has."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(self.path)
                index.requests[path] += 1
                found = index.find(path)
                kind, content = found or ("text/plain", b"")
                tag = f'"{hashlib.sha256(content).hexdigest()}"'
                same = found is not None and self.headers.get("If-None-Match") == tag
                self.send_response(404 if found is None else 304 if same else 200)
                if path in index.files:
                    self.send_header("ETag", tag)
                if same:
                    self.end_headers()
                    return
                index.sent[path] += 1
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_POST = do_GET
            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if authority:
            context = authority.context("localhost")
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"https://localhost:{self.port}" if authority else f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Makes this the only index of a server."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.url}/simple/",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "npm_config_registry": f"{self.url}/npm/",
        }

    def add(self, name: str, filename: str, content: bytes) -> None:
        """Offer a file of a Python package."""
        self.files[f"/files/{filename}"] = content
        described = ""
        if filename.endswith(".whl"):  # PEP 658: so that installers need not look into it beforehand
            described = ' data-core-metadata="true"'
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                path = next(path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
                self.files[f"/files/{filename}.metadata"] = archive.read(path)
        link = f"../../files/{filename}#sha256={hashlib.sha256(content).hexdigest()}"
        others = [each for each in self._pages.get(name, []) if not each.endswith(f">{filename}</a>")]
        self._pages[name] = [*others, f'<a href="{link}"{described}>{filename}</a>']

    def add_wheel(self, name: str, code: str = "", **more: str) -> None:
        """Offer a package with one module of its name, dashes as underscores, and further files."""
        module = name.replace("-", "_")
        self.add(name, wheel_name(name), wheel(name, {f"{module}.py": code, **more}))

    def add_npm(self, name: str, content: bytes, version: str = "1.0.0", **manifest: object) -> None:
        """Offer an npm package."""
        self.files[f"/npm/{name}/-/{name}-{version}.tgz"] = content
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        dist = {"tarball": f"{self.url}/npm/{name}/-/{name}-{version}.tgz", "integrity": integrity}
        described = {"name": name, "version": version, "dist": dist, **manifest}
        page = {"name": name, "dist-tags": {"latest": version}, "versions": {version: described}}
        self._npm[name] = {"": json.dumps(page).encode()}

    def find(self, path: str) -> tuple[str, bytes] | None:
        """What there is at a path."""
        parts = path.strip("/").split("/")
        if parts[0] == "simple" and parts[-1] in self._pages:
            return "text/html", f"<html><body>{'<br>'.join(self._pages[parts[-1]])}</body></html>".encode()
        if parts[0] == "npm" and len(parts) == 2 and parts[1] in self._npm:
            return "application/json", self._npm[parts[1]][""]
        if path in self.files:
            if not path.endswith(".metadata"):
                self.gate.wait(300)
            return "application/octet-stream", self.files[path]
        return None

    def fetched(self, name: str) -> int:
        """How often the wheel of a package was asked for."""
        return self.requests[f"/files/{wheel_name(name)}"]

    def close(self) -> None:
        """Stop listening."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def indexing(authority: Authority | None = None) -> Iterator[Index]:
    """An index for the length of a block."""
    index = Index(authority)
    try:
        yield index
    finally:
        index.close()
