"""Gates of the kernel's permission events: who opens the file is held, until it has what it should have."""

import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isol8.kernel.gates import Gate

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making a gate needs root")
USER = 65534


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(str(tmp_path / "main"), USER)
    yield made
    made.close()
    made.forget()
    made.forget()


def _reader(path: Path, gate: Gate) -> subprocess.Popen[str]:
    """A process that is held where it opens the file."""
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True)
    assert select.select([gate.descriptor], [], [], 60)[0], "nobody came"
    gate.arrive()
    return reader


def test_who_is_held_finds_the_content_and_later_ones_are_not_held(tmp_path: Path, gate: Gate) -> None:
    reader = _reader(tmp_path / "main", gate)
    gate.open(b"content\n")
    assert reader.communicate(timeout=60)[0] == "content\n"
    assert (tmp_path / "main").read_text() == "content\n"
    assert not select.select([gate.descriptor], [], [], 0)[0]
    assert (tmp_path / "main").stat().st_uid == USER


def test_of_two_who_come_the_second_can_be_held(tmp_path: Path, gate: Gate) -> None:
    first = _reader(tmp_path / "main", gate)
    gate.pass_on()
    assert first.communicate(timeout=60)[0] == ""
    second = _reader(tmp_path / "main", gate)
    gate.open(b"content")
    assert second.communicate(timeout=60)[0] == "content"


def test_a_closed_gate_lets_go_on(tmp_path: Path, gate: Gate) -> None:
    reader = _reader(tmp_path / "main", gate)
    gate.close()
    gate.close()
    assert reader.communicate(timeout=60)[0] == ""
    assert not gate.in_place()


@pytest.mark.parametrize("opened", [True, False])
def test_who_was_killed_holds_up_nobody(tmp_path: Path, gate: Gate, opened: bool) -> None:
    first = _reader(tmp_path / "main", gate)
    first.kill()
    first.communicate(timeout=60)
    gate.pass_on()
    second = _reader(tmp_path / "main", gate)
    second.kill()
    second.communicate(timeout=60)
    if opened:
        gate.open(b"content")
    else:
        gate.close()
    assert (tmp_path / "main").read_text() == ("content" if opened else "")


def test_no_room_leaves_it_closed(gate: Gate) -> None:
    limited = Path("/dev/shm") / f"gate-{os.getpid()}"
    limited.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "none", str(limited)], check=True)
    try:
        small = Gate(str(limited / "main"), USER)
        reader = _reader(limited / "main", small)
        with pytest.raises(OSError, match="No space"):
            small.open(bytes(8192))
        assert reader.poll() is None
        assert small.in_place()
        small.close()
        reader.communicate(timeout=60)
        small.forget()
    finally:
        subprocess.run(["umount", str(limited)], check=True)
        limited.rmdir()
