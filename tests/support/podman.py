"""A Podman service of a test's own, with its storage and all else in one directory.

`python -m tests.support.podman COMMAND…` runs a command beside one, which takes the place of the suite's Docker daemon
for it, and has its image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import daemon, machine

START_SECONDS, STOP_SECONDS = 120.0, 120.0


@contextmanager
def running(image: str) -> Iterator[str]:
    """The address of a service, which has an image of the suite's daemon."""
    directory = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
    address = f"unix://{directory}/podman.sock"
    places = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "net"}
    options = [f"--{name}={directory}/{place}" for name, place in places.items()]
    # runc, since crun refuses machines with both versions of cgroups; and there may be no systemd.
    options += ["--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file"]
    with (directory / "log").open("wb") as log:
        command = ["podman", *options, "system", "service", "--time=0", address]
        # There: its conmon writes a file `oom` to where it is when memory runs out.
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory)
    try:
        machine.until(lambda: daemon.reachable(address), lambda: (directory / "log").read_text()[-2000:], START_SECONDS)
        daemon.copy(image, address)
        yield address
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
        for place in machine.mounts_below(directory):
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(directory)


def main() -> int:
    """Run the command that the arguments are; its exit status."""
    with running("isol8/sandbox:latest") as address:
        return subprocess.run(sys.argv[1:], env=os.environ | {"DOCKER_HOST": address}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
