"""Finding a program's variables: those of the machine's own bash, and files that are no such thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from isol8.runtimes.symbols import find_variables

BASH = "/usr/bin/bash"
STAMPS = {"shell_start_time": 8, "shellstart": 16}
OFFSET_OF_SECTIONS, COUNT_OF_SECTIONS = 40, 60


def test_bash_exports_its_variables() -> None:
    second, moment = find_variables(BASH, STAMPS)
    assert second != moment
    assert find_variables(BASH, dict(reversed(STAMPS.items()))) == (moment, second)


@pytest.mark.parametrize(
    "sizes", [{"shell_start_time": 4}, {"no_such_variable": 8}, STAMPS | {"main": 8}, {"malloc": 8}, {"write": 0}]
)
def test_all_of_them_or_none(sizes: dict[str, int]) -> None:
    assert find_variables(BASH, sizes) == ()


def test_no_file_no_program_no_variables(tmp_path: Path) -> None:
    script, empty = tmp_path / "script", tmp_path / "empty"
    script.write_text("#!/bin/sh\n")
    empty.touch()
    for path in (script, empty, tmp_path, tmp_path / "nowhere"):
        assert find_variables(str(path), STAMPS) == ()


def test_a_broken_file_has_none(tmp_path: Path) -> None:
    content, path = Path(BASH).read_bytes(), tmp_path / "bash"
    for length in (4, 40, 64, 4096, len(content) // 2, len(content) - 32):
        path.write_bytes(content[:length])
        assert find_variables(str(path), STAMPS) == ()
    for at, value in ((4, b"\1"), (5, b"\2"), (OFFSET_OF_SECTIONS, b"\xff" * 8), (COUNT_OF_SECTIONS, b"\xff\xff")):
        path.write_bytes(content[:at] + value + content[at + len(value) :])
        assert find_variables(str(path), STAMPS) == ()
