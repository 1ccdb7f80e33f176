"""A Docker daemon of a test's own, which it may stop, start again, and run out of disk."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import daemon, machine

START_SECONDS, STOP_SECONDS = 120.0, 120.0


class Daemon:
    """`start` it, `stop` it, and start it again. `directory` is short: a socket's path has a small limit."""

    def __init__(self, directory: Path, data: Path) -> None:
        self.directory = directory
        self.data = data
        self.host = f"unix://{directory}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self.directory / "daemon.json").write_text("{}")
        options = {
            "config-file": self.directory / "daemon.json",
            "data-root": self.data,
            "exec-root": self.directory / "exec",
            "pidfile": self.directory / "pid",
            "host": self.host,
            "storage-driver": "overlay2",
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
            "ip-masq": "false",
        }
        with (self.directory / "log").open("ab") as log:
            command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        machine.until(lambda: daemon.reachable(self.host), lambda: self.said()[-2000:], START_SECONDS)

    def stop(self) -> None:
        """End it; its containers end with it. Idempotent."""
        process, self._process = self._process, None
        if process:
            process.terminate()
            process.wait(STOP_SECONDS)

    def said(self) -> str:
        """Its log."""
        return (self.directory / "log").read_text(errors="replace")

    def load(self, image: str) -> None:
        """Copy an image from the suite's daemon."""
        daemon.copy(image, self.host)

    def containers(self) -> list[str]:
        """Names of all there are."""
        with daemon.client(self.host) as client:
            return [each["Names"][0] for each in client.get("/containers/json", params={"all": 1}).json()]


@contextmanager
def running(*, room: str = "") -> Iterator[Daemon]:
    """A started daemon. With `room` (such as "700m") its data is on a file system of that size."""
    directory = Path(tempfile.mkdtemp(prefix="dockerd-", dir="/tmp"))
    data = directory / "data"
    data.mkdir()
    try:
        if room:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(data)], check=True)
        made = Daemon(directory, data)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        for place in machine.mounts_below(directory):
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(directory)


def base_image() -> str:
    """The smallest of isol8's images on the suite's daemon."""
    with daemon.client() as client:
        tags: list[str] = [tag for each in client.get("/images/json").json() for tag in each["RepoTags"] or ()]
    return next(tag for tag in tags if tag.startswith("isol8/base:"))
