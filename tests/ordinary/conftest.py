"""Servers of an ordinary user. `equipped` has user ids set aside and cgroups of its own, and is strict; `bare` has
neither, and is relaxed. Tests of the other suites that are imported here run against both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, _require_root
from tests.security.conftest import compiled, mark  # noqa: F401 - fixtures
from tests.support import server as servers
from tests.support.ordinary import Ordinary, delegated_groups, require_mappers
from tests.support.server import Server

KINDS = ("equipped", "bare")
Start = Callable[..., Server]


@contextlib.contextmanager
def starting(user_kind: str, directory: Callable[[], Path]) -> Iterator[Start]:
    """Starts servers of one kind: `start(config, key=…, wrapper=…, oom_score=…)`. They end with the block."""
    _require_root()
    if user_kind == "equipped" and require_mappers():
        pytest.skip(require_mappers())
    with contextlib.ExitStack() as stack:

        def start(config: dict[str, Any] | None = None, *, oom_score: int = 0, **more: Any) -> Server:
            home = directory()
            groups = stack.enter_context(delegated_groups()) if user_kind == "equipped" else ()
            user = Ordinary(home, user_kind == "equipped", groups, oom_score).wrapper()
            settings = dict(config or {})
            if user_kind == "bare":
                settings["policy"] = {"isolation": "relaxed"} | settings.get("policy", {})
            more["wrapper"] = (*user, *more.get("wrapper", ()))
            return stack.enter_context(servers.serving(home, settings, **more))

        yield start


@pytest.fixture(scope="session", params=KINDS)
def user_kind(request: pytest.FixtureRequest) -> str:
    """What the ordinary user has."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(user_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of each kind for all tests that need no configuration of their own."""
    with starting(user_kind, lambda: tmp_path_factory.mktemp("ordinary")) as start:
        running = start()
        yield running
    assert "Traceback" not in running.log_text(), running.log_text()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def serve(user_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts further servers of that kind; they end with the module."""
    with starting(user_kind, lambda: tmp_path_factory.mktemp("ordinary")) as start:
        yield start
