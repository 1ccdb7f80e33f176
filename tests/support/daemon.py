"""The Docker daemon as tests see it: through its own HTTP interface, without the code under test."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import uuid
from typing import IO, Any

import httpx

LABEL = "isol8.server"


def address() -> str:
    """Where the suite's daemon is: a unix socket."""
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def client(host: str = "") -> httpx.Client:
    """A client of the daemon at `host`, or of the suite's. The caller closes it."""
    path = (host or address()).removeprefix("unix://")
    return httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://docker", timeout=300)


def reachable(host: str = "") -> bool:
    """Whether there is a daemon."""
    path = (host or address()).removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)  # httpx would leave its socket open when nobody answers
        except OSError:
            return False
    with client(host) as daemon:
        return daemon.get("/_ping").status_code == 200


def copy(image: str, host: str) -> None:
    """Copy an image from the suite's daemon to the one at `host`."""
    with client() as source, client(host) as target:
        with source.stream("GET", f"/images/{image}/get") as packed:
            assert packed.status_code == 200, image
            answer = target.post("/images/load", content=packed.iter_bytes(1 << 20))
        assert answer.status_code == 200, answer.text


def build(dockerfile: str) -> str:
    """Build an image, which may copy its Dockerfile; its name."""
    name = f"isol8-test:{uuid.uuid4().hex}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        archive.addfile(entry, io.BytesIO(dockerfile.encode()))
    with client() as daemon:
        answer = daemon.post("/build", params={"t": name}, content=packed.getvalue())
        assert answer.status_code == 200, answer.text
        assert '"error"' not in answer.text, answer.text
    return name


def images(label: str) -> list[dict[str, Any]]:
    """Those with a label."""
    with client() as daemon:
        answer = daemon.get("/images/json", params={"filters": json.dumps({"label": [label]})})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def remove_image(name: str) -> None:
    """Remove an image, whoever uses it. One that is gone is fine."""
    with client() as daemon:
        daemon.delete(f"/images/{name}", params={"force": 1})


def export(image: str, target: IO[bytes]) -> None:
    """Write the files of an image as a tar archive."""
    with client() as daemon:
        made = daemon.post("/containers/create", json={"Image": image, "Cmd": ["true"]})
        assert made.status_code == 201, made.text
        name = made.json()["Id"]
        try:
            with daemon.stream("GET", f"/containers/{name}/export") as answer:
                assert answer.status_code == 200
                for piece in answer.iter_bytes(1 << 20):
                    target.write(piece)
        finally:
            daemon.delete(f"/containers/{name}")


def containers(server_pid: int | None = None, host: str = "") -> list[dict[str, Any]]:
    """Containers that servers have made, in whatever state; of one server when its main process is given."""
    with client(host) as daemon:
        answer = daemon.get("/containers/json", params={"all": 1, "filters": json.dumps({"label": [LABEL]})})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    # The label ends in …-PID-STARTED.
    return [each for each in found if server_pid is None or each["Labels"][LABEL].split("-")[-2] == str(server_pid)]
