"""Programs in C, compiled here and run in sandboxes; and the server must answer after every attack."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import machine
from tests.support.calls import stdout
from tests.support.server import Server

pytest.register_assert_rewrite("tests.security.containment")

PROGRAMS = Path(__file__).parent / "programs"
Compiled = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """`compiled("name")` is the `files` of a request that holds programs/name.c, compiled, as /sandbox/name."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc and libc6-dev")
    directory = tmp_path_factory.mktemp("compiled")

    def compile_program(name: str) -> dict[str, Any]:
        target = directory / name
        if not target.exists():
            command = [compiler, "-O1", "-Wall", "-pthread", "-o", str(target), str(PROGRAMS / f"{name}.c")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return {f"/sandbox/{name}": {"base64": base64.b64encode(target.read_bytes()).decode()}}

    return compile_program


@pytest.fixture(autouse=True)
def _the_server_still_answers(server: Server, client: httpx.Client) -> Iterator[None]:
    """After every attack the same processes must serve the next caller."""
    before = _parts(server)
    yield
    assert stdout(client, "print('unharmed')") == "unharmed\n"
    assert _parts(server) == before, server.log_text()[-4000:]


def _parts(server: Server) -> set[int]:
    """The server's own processes: the main one, and those right below it."""
    return {server.pid} | {pid for pid in machine.descendants(server.pid) if machine.parent(pid) == server.pid}


def api_process(server: Server) -> int:
    """The process that faces the network: of the server's own, the one that holds most."""
    return max(_parts(server), key=machine.resident_bytes)


@pytest.fixture
def mark() -> str:
    """A number that nothing else on this machine has in its command line."""
    return f"3600.{uuid.uuid4().int % 10**12}"
