"""Installing runtimes: what is there stays, what a killed run left goes, what differs from its digest is refused.

The network is not used: the fetching step is tried by `isol8 setup` itself, which every other test needs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from isol8.runtimes import install as installing
from isol8.runtimes.install import INSTALLABLE, InstallFailed, Workshop, install, load_pins


def put_runtime(directory: Path, name: str, version: str, says: str) -> None:
    executable = directory / f"{name}-{version}" / "bin" / name
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho {says}\n")
    executable.chmod(0o755)


@pytest.fixture
def runtimes(tmp_path: Path) -> Path:
    """The directory of runtimes in the data directory `tmp_path`."""
    (tmp_path / "runtimes").mkdir()
    return tmp_path / "runtimes"


def test_every_pin_has_a_version_and_digests() -> None:
    pins = load_pins()
    assert set(pins) == set(INSTALLABLE)
    for pin in pins.values():
        if "pypi" in pin:
            assert all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for digest in pin["sha256"])
        else:
            assert all(built["integrity"].startswith("sha512-") for built in pin["npm"].values())


def test_what_is_installed_is_left_alone(tmp_path: Path, runtimes: Path) -> None:
    version = load_pins()["deno"]["version"]
    put_runtime(runtimes, "deno", version, "deno")
    (runtimes / "deno").symlink_to(f"deno-{version}")
    said: list[str] = []
    install("deno", str(tmp_path), said.append)
    assert said == [f"deno {version} is installed"]
    assert sorted(path.name for path in runtimes.iterdir()) == ["deno", f"deno-{version}"]


def test_a_run_killed_before_its_last_step_is_taken_up(tmp_path: Path, runtimes: Path) -> None:
    version = load_pins()["deno"]["version"]
    put_runtime(runtimes, "deno", "0.0.1", "the version before")
    put_runtime(runtimes, "deno", version, "complete, yet nothing leads to it")
    (runtimes / "deno").symlink_to("deno-0.0.1")
    (runtimes / ".installing-left" / "half").mkdir(parents=True)
    said: list[str] = []
    install("deno", str(tmp_path), said.append)
    assert said == []
    assert (runtimes / "deno").readlink() == Path(f"deno-{version}")
    assert not list(runtimes.glob(".installing-*"))


def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"not what was pinned")
    with pytest.raises(InstallFailed, match="digest differs"):
        installing._check(archive, load_pins()["bun"]["npm"]["x86_64"]["integrity"])


def test_a_failing_step_ends_with_its_last_lines(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as lock:
        workshop = Workshop(tmp_path, lock.fileno())
        with pytest.raises(InstallFailed, match=r"it failed:\n.*no such thing"):
            workshop.run(["sh", "-c", "echo no such thing >&2; exit 1"], "it failed")
        with pytest.raises(InstallFailed, match="it failed: "):
            workshop.run(["/no/such/program"], "it failed")


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runtimes").write_text("in the way")
    with pytest.raises(InstallFailed, match="runtimes: File exists"):
        install("deno", str(tmp_path), print)
