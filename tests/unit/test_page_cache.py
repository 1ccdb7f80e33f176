"""Files that are read anew: they stay what they were, and nothing is left of the reading."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from isol8.kernel.page_cache import reading_anew


def _children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_files_stay_what_they_were(tmp_path: Path) -> None:
    before = _children()
    file, content = tmp_path / "program", os.urandom(5_000_001)
    file.write_bytes(content)
    (tmp_path / "empty").touch()
    with reading_anew([str(tmp_path / name) for name in ("nowhere", "empty", "program", ".")], 60):
        assert file.read_bytes() == content
    assert file.read_bytes() == content
    assert _children() == before


def test_who_fails_meanwhile_does_not_wait_and_leaves_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")  # nobody writes to it, so reading does not end
    before, began = _children(), time.monotonic()
    with pytest.raises(RuntimeError, match="meanwhile"), reading_anew([str(tmp_path / "never")], 3600):
        raise RuntimeError("meanwhile")
    with reading_anew([str(tmp_path / "never")], 0.1):
        pass
    assert time.monotonic() - began < 3600
    assert _children() == before
