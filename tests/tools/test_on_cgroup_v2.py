"""scripts/on-cgroup-v2: what goes in comes out, and nothing is left of it, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "on-cgroup-v2"
CANNOT = 77
OF_OTHERS = ("isol8-", "delegated-", "container-")
# Long for a machine that has to emulate another one and may have much else to do.
BOOT_SECONDS = 300


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    done = subprocess.run([ROOT / "scripts" / "v2-machine"], capture_output=True, text=True, check=False)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def mark() -> Iterator[str]:
    """A word for the environment of the emulated machine. All that carries it is gone after the test."""
    made = f"mark-{uuid.uuid4().hex}"
    yield made
    machine.until(lambda: not machine.marked(made), "no process is left")
    assert not _directories(made)


def _directories(mark: str) -> list[Path]:
    """Where it keeps what it passes on, this test's environment among it."""
    return [path.parent for path in (ROOT / ".build").glob("on-cgroup-v2.*/command") if mark in _text(path)]


def _text(path: Path) -> str:
    """Empty when it is gone: other tests have machines too, and theirs end at any time."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return ""


def _groups() -> set[str]:
    """This machine's topmost, without those that other tests' servers make and remove at any time."""
    return {name for name in os.listdir("/sys/fs/cgroup") if not name.startswith(OF_OTHERS)}


def _started(mark: str, *arguments: str) -> subprocess.Popen[str]:
    # A shell cannot trap what was ignored when it was started, as nohup and shells in the background have it.
    command = ["env", "--default-signal=HUP,INT,TERM", str(SCRIPT), *arguments]
    environment = {**os.environ, "MARK": mark}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _emulators(mark: str) -> set[int]:
    return machine.running("virtme.exec=") & machine.marked(mark)


def test_what_goes_in_comes_out(mark: str, tmp_path: Path) -> None:
    code = (
        'printf "%s|" "$@" "$PWD" "$MARK" "$(id -u)"; cat /sys/fs/cgroup/cgroup.controllers; echo error >&2\n'
        f"unshare --user true || echo no user namespaces; touch x && rm x; touch {tmp_path}/x && echo wrong; exit 41"
    )
    groups = _groups()
    directory = ROOT / "tests"
    (tmp_path / "out").write_text("before\n")
    with (tmp_path / "out").open("a") as out, (tmp_path / "err").open("w") as err:
        command = [str(SCRIPT), str(BOOT_SECONDS), "bash", "-c", code, "bash", "a b", "it's", "$c"]
        done = subprocess.run(
            command, stdout=out, stderr=err, cwd=directory, env={**os.environ, "MARK": mark}, check=False
        )
    said = (tmp_path / "out").read_text()
    assert done.returncode == 41, said + (tmp_path / "err").read_text()
    assert said.startswith(f"before\na b|it's|$c|{directory}|{mark}|0|"), said
    assert {"cpu", "memory", "pids"} <= set(said.rpartition("|")[2].split())
    assert "error\n" in (tmp_path / "err").read_text()
    assert "wrong" not in said
    assert "no user" not in said
    assert _groups() == groups


def test_it_takes_no_longer_than_it_may(mark: str) -> None:
    with _started(mark, "1", "sleep", "3600") as process:
        assert process.wait(BOOT_SECONDS) == 124


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_end_from_outside(mark: str, sent: signal.Signals) -> None:
    with _started(mark, "sleep", "3600") as process:
        machine.until(lambda: _emulators(mark), "the machine runs")
        process.send_signal(sent)
        assert process.wait(BOOT_SECONDS) == (-sent if sent == signal.SIGKILL else 128 + sent)
    machine.until(lambda: not machine.marked(mark), "the machine is gone, and who has started it")
    if sent == signal.SIGKILL:  # it could not do so itself
        for directory in _directories(mark):
            shutil.rmtree(directory)


def test_a_machine_that_dies_is_no_success(mark: str) -> None:
    with _started(mark, "sleep", "3600") as process:
        machine.kill(machine.until(lambda: _emulators(mark), "the machine runs"))
        assert process.wait(BOOT_SECONDS) == 255


def test_a_command_is_needed(mark: str) -> None:
    with _started(mark) as process:
        assert process.wait(BOOT_SECONDS) == 64
