"""Servers with a store of layers of their own, and an index of the tests'."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.packages.index import Index, indexing
from tests.support import machine
from tests.support.server import Server

Shop = Callable[..., Server]


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with indexing() as made:
        yield made


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the runtimes that are installed, and no layers."""
    made = tmp_path_factory.mktemp("data")
    installed = Path(os.environ.get("ISOL8_DATA_DIR", "~/.isol8")).expanduser()
    (made / "runtimes").symlink_to(installed / "runtimes")
    if not (made / "runtimes" / "uv").exists():
        pytest.skip("uv is not installed: isol8 setup")
    return made


@pytest.fixture(scope="module")
def shop(serve: Serve, index: Index, data_dir: Path) -> Shop:
    """Starts servers that install from `index`: `shop(config, data_dir=…)`."""

    def start(config: dict[str, Any] | None = None, *, data: Path | None = None, **environment: str) -> Server:
        own = {"ISOL8_DATA_DIR": str(data or data_dir), **index.environment, **environment}
        return serve(config, environment=own)

    return start


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[httpx.Client]:
    """A client of a server with nothing but defaults, and the test's index."""
    with shop().client() as made:
        yield made


def layers(data: Path) -> list[str]:
    """What is in the store."""
    return sorted(path.name for path in (data / "layers").iterdir())


def at_rest(data: Path) -> Path:
    """The store, when nothing is left in it of what was half made: who fails a build does not wait for that."""
    machine.until(lambda: not any(name.startswith(".making-") for name in layers(data)), "nothing half made is left")
    return data / "layers"
