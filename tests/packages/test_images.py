"""Packages and images of the Docker engine: what a template's image holds, and whose layers are whose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.packages.conftest import Shop, layers
from tests.packages.index import Index
from tests.support import daemon, dockerd, machine
from tests.support.calls import body, execute, refused, stdout

POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}
LAYER = "isol8.layer"
# Root as far as files go, but without the right to mount, as users of the group docker are.
UNABLE = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
SITE = "/usr/local/lib/python3.11/dist-packages"
MOUNTED = "import {0}; print('dist-packages' in open('/proc/self/mountinfo').read())"


@pytest.fixture
def data(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A data directory of the test's own. The images of its templates are removed afterwards."""
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    (tmp_path / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    (tmp_path / "layers").mkdir()
    yield tmp_path
    for each in _baked(tmp_path):
        daemon.remove_image(each["Id"])


def _set_up(index: Index, data: Path, *arguments: str, wrapper: tuple[str, ...] = ()) -> str:
    """What `isol8 setup` says."""
    environment = os.environ | index.environment | {"ISOL8_DATA_DIR": str(data)}
    command = [*wrapper, sys.executable, "-m", "isol8", "setup", "--engine", "docker", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _baked(data: Path) -> list[dict[str, Any]]:
    """The images that hold layers of a store."""
    return [each for each in daemon.images(LAYER) if each["Labels"][LAYER] in layers(data)]


def test_a_template_has_an_image(shop: Shop, index: Index, data: Path) -> None:
    index.add_wheel("baked", "value = 7")
    said = _set_up(index, data, "--python", "baked")
    assert "Building an image" in said
    assert "baked: ready" in said
    (image,) = _baked(data)
    server = shop({"pool": POOL}, data=data)
    with server.client() as client:
        code = MOUNTED.format("baked")
        machine.until(lambda: stdout(client, code, installPackages=["baked"]) == "False\n", "it is used")
        assert image["Id"] in {each["ImageID"] for each in daemon.containers(server.pid)}
        assert "ModuleNotFoundError" in execute(client, "import baked")["stderr"]
        # What is added in a session is mounted over it, with what was there.
        index.add_wheel("added")
        stdout(client, "import baked", sessionId="s", installPackages=["baked"])
        assert stdout(client, MOUNTED.format("baked, added"), sessionId="s", installPackages=["added"]) == "True\n"
        client.delete("/session/s")
    index.add_wheel("baked", "value = 8")  # of the same version, so the layer stays what it is
    assert _set_up(index, data, "--python", "baked").count("Downloaded") == 0
    assert [each["Id"] for each in _baked(data)] == [image["Id"]]


def test_a_server_that_may_not_mount_has_what_its_templates_hold(serve: Serve, index: Index, data: Path) -> None:
    index.add_wheel("held")
    index.add_wheel("missing")
    _set_up(index, data, "--python", "held", wrapper=UNABLE)
    environment = {"ISOL8_DATA_DIR": str(data), **index.environment}
    with serve({"pool": POOL}, environment=environment, wrapper=UNABLE).client() as client:
        assert stdout(client, MOUNTED.format("held"), installPackages=["held"]) == "False\n"
        sent = body("import missing", installPackages=["missing"])
        refused(client, 400, sent, mentions="isol8 setup --python")
        stdout(client, "import held", sessionId="s", installPackages=["held"])
        client.delete("/session/s")


def test_labels_alone_are_not_believed(shop: Shop, index: Index, data: Path) -> None:
    """An image that somebody offers may say of itself that it holds a layer."""
    index.add_wheel("posed")
    _set_up(index, data, "--python", "posed")
    (image,) = _baked(data)
    labels = "".join(f"LABEL {name}={image['Labels'][name]}\n" for name in (LAYER, "isol8.base", "isol8.template"))
    daemon.remove_image(image["Id"])
    posing = daemon.build(f"FROM {dockerd.base_image()}\n{labels}COPY Dockerfile {SITE}/posed.py\n")
    try:
        with shop({"pool": POOL}, data=data).client() as client:
            for _ in range(3):
                assert stdout(client, MOUNTED.format("posed"), installPackages=["posed"]) == "True\n"
    finally:
        daemon.remove_image(posing)


def test_layers_belong_to_an_image(shop: Shop, index: Index, data: Path) -> None:
    """The same requirements for the same version, in two images: two layers. And one of a caller's choice has none."""
    index.add_wheel("twice")
    other = dockerd.base_image()
    for image in ("", other):
        config = {"pool": POOL, "docker": {"image": image}, "policy": {"images": [other]}}
        with shop(config, data=data).client() as client:
            assert stdout(client, MOUNTED.format("twice"), installPackages=["twice"]) == "True\n"
            sent = body("1", installPackages=["twice"], options={"image": other})
            refused(client, 400, sent, mentions="options.image")
    assert (index.fetched("twice"), len(layers(data))) == (2, 2)


def test_packages_of_an_image_are_not_hidden(shop: Shop, index: Index, data: Path) -> None:
    index.add_wheel("over")
    image = daemon.build(f"FROM {dockerd.base_image()}\nCOPY Dockerfile {SITE}/own.txt\n")
    try:
        with shop({"pool": POOL, "docker": {"image": image}}, data=data).client() as client:
            refused(client, 400, body("1", installPackages=["over"]), mentions="no directory for packages")
            assert stdout(client, f"import os; print(os.listdir('{SITE}'))") == "['own.txt']\n"
    finally:
        daemon.remove_image(image)
