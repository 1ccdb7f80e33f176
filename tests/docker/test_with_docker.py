"""scripts/with-docker, which the suite itself runs beside: one at a time in a directory."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import machine

ROOT = Path(__file__).parents[2]
LOCK = ROOT / ".build" / "docker.lock"


@pytest.fixture(autouse=True)
def _beside_it() -> None:
    if LOCK.exists():
        with LOCK.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
    pytest.skip("this suite does not run beside scripts/with-docker of this directory")


def test_a_second_one_waits(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "with-docker"), "touch", str(tmp_path / "ran")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as waiting:
        assert waiting.stderr
        try:
            assert "waiting for its end" in waiting.stderr.readline()
            assert waiting.poll() is None
        finally:
            os.killpg(waiting.pid, 9)
    assert not (tmp_path / "ran").exists()


def test_nobody_else_holds_it() -> None:
    """Not what it runs, and not the daemon, which are all that outlives it when it is killed."""
    found = {pid for pid in machine.running("dockerd") if str(ROOT / ".build" / "docker") in machine.command(pid)}
    # What it has forked is called the same until it is another program.
    (daemon,) = (pid for pid in found if machine.parent(pid) not in found)
    for pid in (os.getpid(), daemon):
        assert str(LOCK) not in machine.descriptors(pid)
