"""Images: whose they are, what is wrong with them, and who may choose one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, dockerd
from tests.support.calls import body, execute, refusal, refused

GREEDY = """\
ENTRYPOINT ["false"]
CMD ["x"]
ENV OWN=set
USER root
WORKDIR /usr
HEALTHCHECK CMD false
"""
POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    """`plain` has Python alone; `empty` has nothing; `voluminous` declares a volume; `greedy` has an entry point, an
    environment, a user and a working directory of its own."""
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    base = dockerd.base_image()
    names = {
        "plain": daemon.build(f"FROM {base}\nLABEL x=plain\n"),
        "empty": daemon.build("FROM scratch\nCOPY Dockerfile /\n"),
        "voluminous": daemon.build(f"FROM {base}\nVOLUME /var/data\n"),
        "greedy": daemon.build(f"FROM {base}\n{GREEDY}"),
    }
    yield names
    with daemon.client() as client:
        for name in names.values():
            client.delete(f"/images/{name}", params={"force": 1})


@pytest.fixture(scope="module")
def chosen(serve: Serve, images: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of a server that allows these images, and one that is not there."""
    running = serve({"pool": POOL, "policy": {"images": [*images.values(), "nowhere:1"]}})
    with running.client() as client:
        yield client


def test_an_allowed_image_is_used(chosen: httpx.Client, images: dict[str, str]) -> None:
    code = "import os; print(os.path.exists('/opt/isol8'), os.getuid() > 65536, os.getcwd(), os.environ.get('OWN'))"
    assert execute(chosen, code)["stdout"] == "True True /sandbox None\n"
    plain = execute(chosen, code, options={"image": images["plain"]})
    assert plain["stdout"] == "False True /sandbox None\n"
    greedy = execute(chosen, code, options={"image": images["greedy"]})
    assert greedy["stdout"] == "False True /sandbox set\n"


def test_every_language_that_the_image_has(chosen: httpx.Client, images: dict[str, str]) -> None:
    options = {"image": images["plain"]}
    assert execute(chosen, "echo $HOME", "bash", options=options)["stdout"] == "/sandbox\n"
    missing = execute(chosen, "console.log(1)", "node", options=options)
    assert (missing["exitCode"], missing["stderr"]) == (127, "node: No such file or directory\n")


def test_what_is_wrong_with_an_image_is_said(chosen: httpx.Client, images: dict[str, str]) -> None:
    for name, sign in (("empty", "has no python3"), ("voluminous", "/var/data")):
        refusal(chosen.post("/execute", json=body("1", options={"image": images[name]})), 500, sign)
    refusal(chosen.post("/execute", json=body("1", options={"image": "nowhere:1"})), 500, "docker pull nowhere:1")


def test_any_other_image_is_refused(chosen: httpx.Client) -> None:
    for name in ("isol8/sandbox:latest", "", "debian", "../x", "a b"):
        refused(chosen, 403, body("print(1)", options={"image": name}), mentions="policy.images")


def test_a_session_keeps_its_image(chosen: httpx.Client, images: dict[str, str]) -> None:
    options = {"image": images["plain"]}
    execute(chosen, "open('kept', 'w').write('x')", sessionId="imaged", options=options)
    assert execute(chosen, "print(open('kept').read())", sessionId="imaged")["stdout"] == "x\n"
    other = {"image": images["greedy"]}
    refused(chosen, 409, body("print(1)", sessionId="imaged", options=other), mentions="image")
    chosen.delete("/session/imaged")


def test_an_image_with_fewer_runtimes(serve: Serve, images: dict[str, str]) -> None:
    running = serve({"pool": POOL, "docker": {"image": images["plain"]}})
    with running.client() as client:
        refused(client, 400, body("1", "node"), mentions="isol8 setup")
        assert execute(client, "print(1)")["stdout"] == "1\n"
        entries = {entry["name"]: entry for entry in client.get("/runtimes").json()["runtimes"]}
        assert (entries["node"]["ready"], entries["python"]["ready"]) == (False, True)


def _serve(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "ISOL8_PORT": "0", "ISOL8_API_KEY": "key", "ISOL8_ENGINE": "docker"}
    command = [sys.executable, "-m", "isol8", "serve"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=known | environment, cwd=directory, check=False
    )


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        ({"DOCKER_HOST": "unix:///tmp/no-such.sock"}, "cannot be reached"),
        ({"ISOL8_DOCKER_HOST": "unix:///tmp/no-such.sock"}, "is it running?"),
        ({"ISOL8_DOCKER_HOST": "nonsense"}, "address makes no sense"),
        ({"ISOL8_DOCKER_CONTEXT": "no-such-context"}, "no-such-context"),
        ({"ISOL8_DOCKER_IMAGE": "nowhere:1"}, "docker pull nowhere:1"),
        ({"ISOL8_DOCKER_RUNTIME": "nonesuch"}, "nonesuch"),
    ],
    ids=["DOCKER_HOST", "host", "nonsense", "context", "image", "runtime"],
)
def test_a_server_that_cannot_start_says_why(tmp_path: Path, environment: dict[str, str], sign: str) -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    done = _serve(tmp_path, **environment)
    assert done.returncode != 0
    assert sign in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "listens on" not in done.stdout


def test_setup_a_second_time_does_nothing() -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    done = subprocess.run(
        [sys.executable, "-m", "isol8", "setup", "--engine", "docker"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "is up to date" in done.stdout
    assert "building" not in done.stdout
