"""What all tests share: real servers, clients, and the rule that nothing is skipped in CI."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from tests.support import daemon, engines
from tests.support import server as servers
from tests.support.programs import RUNTIMES
from tests.support.server import Server

Serve = Callable[..., Server]
IN_CI = os.environ.get("CI") == "true"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything a test needs must be there: a skip there hides a missing install step."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed in CI: {reason}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--engine` chooses what makes the sandboxes of every server that tests start."""
    parser.addoption("--engine", choices=engines.ENGINES, default="native", help="what makes the sandboxes")


def pytest_configure(config: pytest.Config) -> None:
    """Every server that tests start has the engine that was asked for."""
    engines.CURRENT["engine"] = config.getoption("--engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Known differences of the engine must fail; what is only the native engine's is left out."""
    kept, left_out = [], []
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if engines.reason(engines.NOT_ABOUT, name):
            left_out.append(item)
            continue
        if difference := engines.reason(engines.DIFFERENCES, name):
            item.add_marker(pytest.mark.xfail(reason=difference, strict=True))
        kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def _require_root() -> None:
    if engines.of_docker() and not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    if os.geteuid() != 0:
        pytest.skip("the native engine needs root")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this process that need no configuration of their own."""
    _require_root()
    with servers.serving(tmp_path_factory.mktemp("server")) as running:
        yield running
    assert "Traceback" not in running.log_text(), running.log_text()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the shared server, with its key."""
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts further servers: `serve(config, key=…, environment=…, wrapper=…)`. They end with the module."""
    _require_root()
    started: list[Server] = []

    def start(config: dict[str, Any] | None = None, **more: Any) -> Server:
        started.append(servers.start(tmp_path_factory.mktemp("server"), config, **more))
        return started[-1]

    yield start
    errors = []
    for running in started:
        try:
            servers.stop(running)
        except AssertionError as error:
            errors.append(error)
    assert not errors, errors


@pytest.fixture
def session(client: httpx.Client) -> Iterator[str]:
    """The name of a session of the shared server that does not exist yet; removed afterwards."""
    name = f"session-{uuid.uuid4().hex}"
    yield name
    client.delete(f"/session/{name}")


@cache
def _ready(url: str, key: str) -> dict[str, Any]:
    answer = httpx.get(f"{url}/runtimes", headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return {entry["name"]: entry for entry in answer.json()["runtimes"]}


@pytest.fixture
def require(server: Server) -> Callable[[str], None]:
    """Skips the test when a runtime is not installed; `isol8 setup` installs them all."""

    def check(name: str) -> None:
        entry = _ready(server.url, server.key)[name]
        if not entry["ready"]:
            pytest.skip(f"{name} is not installed: {entry['install']}")

    return check


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    """Each runtime in turn."""
    name: str = request.param
    require(name)
    return name
