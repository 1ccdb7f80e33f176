"""A gate of a named pipe: who reads the file waits, and then finds what it should have."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isol8.kernel.pipe_gates import PipeGate
from isol8.runner.files import write_file

Make = Callable[[], PipeGate]
READ = "import sys; text = open(sys.argv[1]).read(); print(len(text), text[:9])"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "main.py")


@pytest.fixture
def gate(path: str) -> PipeGate:
    return PipeGate(path, lambda content: write_file(path, content))


def _read(path: str, gate: PipeGate) -> subprocess.Popen[str]:
    """A process that is held at the gate."""
    reader = subprocess.Popen([sys.executable, "-c", READ, path], stdout=subprocess.PIPE, text=True)
    assert select.select([gate.descriptor], [], [], 120)[0]
    gate.arrive()
    assert reader.poll() is None
    return reader


@pytest.mark.parametrize("content", [b"", b"x = 1\n", b"y" * 1_000_000], ids=["empty", "short", "long"])
def test_who_is_held_reads_all_and_the_file_is_there(path: str, gate: PipeGate, content: bytes) -> None:
    reader = _read(path, gate)
    assert gate.in_place()
    gate.open(content)
    said, _ = reader.communicate(timeout=120)
    assert said == f"{len(content)} {content[:9].decode()}\n"
    assert Path(path).read_bytes() == content
    assert not gate.in_place()
    gate.close()


def test_a_reader_that_died_holds_up_nobody(path: str, gate: PipeGate) -> None:
    reader = _read(path, gate)
    reader.kill()
    reader.communicate(timeout=120)
    gate.open(b"y" * 1_000_000)
    assert Path(path).stat().st_size == 1_000_000


def test_a_file_that_cannot_be_written_leaves_the_gate_closed(path: str) -> None:
    def refuse(content: bytes) -> None:
        raise OSError(28, "No space left on device")

    gate = PipeGate(path, refuse)
    reader = _read(path, gate)
    with pytest.raises(OSError, match="No space"):
        gate.open(b"x")
    assert reader.poll() is None
    gate.close()  # who was held reads an empty file
    assert reader.communicate(timeout=120)[0] == "0 \n"


def test_another_file_of_that_name_is_seen(path: str, gate: PipeGate) -> None:
    Path(path).rename(f"{path}.moved")
    assert not gate.in_place()
    Path(path).write_text("")
    assert not gate.in_place()
    gate.close()
