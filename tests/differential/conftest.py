"""The files that the bare side runs from: the machine's own, or those of the image that sandboxes are made from."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import daemon, engines

IMAGE = "isol8/sandbox:latest"


@pytest.fixture(scope="session")
def image_files() -> Iterator[Path | None]:
    """The image, unpacked; None where sandboxes see the machine's own files."""
    if not engines.of_docker():
        yield None
        return
    directory = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        with tempfile.TemporaryFile() as packed:
            daemon.export(IMAGE, packed)
            packed.seek(0)
            subprocess.run(["tar", "--extract", "--directory", str(directory)], stdin=packed, check=True)
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory)
