"""Packages on servers of ordinary users: installed, mounted into live sandboxes, kept ready."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ordinary.conftest import starting
from tests.packages.index import Index, indexing
from tests.packages.wheels import wheel, wheel_name
from tests.support import machine
from tests.support.calls import body, refused, stdout
from tests.support.ordinary import UID
from tests.support.server import Server


@pytest.fixture
def index() -> Iterator[Index]:
    with indexing() as made:
        yield made


@pytest.fixture
def server(user_kind: str, index: Index, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a data directory of the user's own."""
    home = tmp_path_factory.mktemp("ordinary")
    (data := home / "data").mkdir()
    installed = Path(os.environ.get("ISOL8_DATA_DIR", "~/.isol8")).expanduser()
    (data / "runtimes").symlink_to(installed / "runtimes")
    os.chown(data, UID, UID)
    index.add_wheel("ready", "name = 'ready'")
    templates = {"ready": {"runtime": "python", "packages": ["ready"], "preimport": ["ready"], "pool": 1}}
    with starting(user_kind, lambda: home) as start:
        yield start({"templates": templates}, wrapper=("env", f"ISOL8_DATA_DIR={data}"), environment=index.environment)


def test_downloads(server: Server, index: Index) -> None:
    """What is kept of them is the user's alone."""
    index.add_wheel("common")
    for name in ("one", "two"):
        index.add(name, wheel_name(name), wheel(name, {f"{name}.py": "import common"}, requires=("common",)))
    with server.client(seconds=120) as client:
        for name in ("one", "two"):
            assert stdout(client, f"import {name}; print(1)", installPackages=[name]) == "1\n"
    assert index.sent[f"/files/{wheel_name('common')}"] == 1


def test_packages(server: Server, index: Index) -> None:
    index.add_wheel("ordinary", "name = 'ordinary'")
    code = "import ordinary; print(ordinary.name)"
    with server.client() as client:
        for _ in range(3):
            assert stdout(client, code, installPackages=["ordinary"]) == "ordinary\n"
        stdout(client, "open('/sandbox/kept', 'w')", sessionId="mine")
        assert stdout(client, code, installPackages=["ordinary"], sessionId="mine") == "ordinary\n"
        assert stdout(client, code, sessionId="mine") == "ordinary\n"
        client.delete("/session/mine")
        assert index.fetched("ordinary") == 1
        loaded = "import sys; print('ready' in sys.modules)"
        machine.until(lambda: stdout(client, loaded, installPackages=["ready"]) == "True\n", "it is imported ahead")


def test_without_a_place_for_layers(user_kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("ordinary")
    (home / "data").mkdir()  # root's
    with starting(user_kind, lambda: home) as start:
        server = start(wrapper=("env", f"ISOL8_DATA_DIR={home / 'data'}"))
        with server.client() as client:
            refused(client, 400, body("1", installPackages=["numpy"]), mentions="not available")
            assert stdout(client, "print(1)") == "1\n"
    assert "no packages can be installed" in server.log_text()
