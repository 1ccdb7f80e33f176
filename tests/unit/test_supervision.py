"""What the launcher clears away behind a supervisor that has ended."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from isol8 import supervision
from isol8.kernel import sweeping
from isol8.kernel.cgroups import Hierarchy


def test_what_takes_its_time_to_end_does_not_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Sandboxes of a supervisor that was killed, on a busy machine."""
    hierarchy = Hierarchy(1, {"memory": str(tmp_path / "memory"), "pids": str(tmp_path / "pids")})
    swept = []

    def sweep(path: str, timeout_s: float) -> None:
        swept.append(os.path.dirname(path))
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    monkeypatch.setattr(sweeping, "sweep", sweep)
    caplog.set_level(logging.ERROR)
    supervision._sweep_cgroups(hierarchy, os.getpid())
    assert swept == hierarchy.roots
    assert caplog.text.count("is not empty yet: Device or resource busy") == 2
