"""The benchmarks run from end to end, with tiny numbers. What they find is not looked at: this machine is busy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import charts, publish, report
from bench.surroundings import ROOT
from tests.support import machine

TINY = {
    "--pairs": 4, "--calls": 4, "--seconds": 0.5, "--clients": 3, "--sessions": 6, "--soak": 20, "--idle-s": 0.5,
    "--largest-file": 100_000,
}  # fmt: skip
LONGEST_S = 1800


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("the native engine needs root")


@pytest.mark.slow
def test_a_whole_run_and_what_is_made_of_it(tmp_path: Path) -> None:
    """Of every part but Docker, which would look for a daemon of somebody else's."""
    output = tmp_path / "bench.json"
    parts = "latency,sessions,stream,packages,throughput,crowd,memory,idle,files,soak"
    sizes = [str(each) for pair in TINY.items() for each in pair]
    _run("bench", "--only", parts, "--runtime", "python", "--runtime", "bash", *sizes, "--output", str(output))
    run: dict[str, Any] = json.loads(output.read_text())
    _check_calls(run)
    _check_packages(run)
    _check_state(run)
    with pytest.raises(publish.NotPublishable):
        publish.check(run)  # it is tiny
    _check_documents(run, tmp_path)


def _check_calls(run: dict[str, Any]) -> None:
    for name in ("python", "bash"):
        latency = run["latency"][name]
        assert (latency["isol8"]["count"], latency["bare"]["count"]) == (4, 4)
        assert latency["p50_ratio"]["value"] > 0
    (throughput,) = run["throughput"]["python"]
    assert throughput["clients"] == 3
    assert throughput["isol8"]["errors"] == throughput["bare"]["errors"] == {}
    assert {each["way"] for each in run["files"]} >= {"POST /file", "GET /file", "stdout", "a program"}


def _check_packages(run: dict[str, Any]) -> None:
    packages = run["packages"]
    assert (packages["numpy"]["count"], packages["pandas"]["count"]) == (2, 2)
    assert packages["pandas_ratio"]["value"] > 0
    assert packages["numpy_more_ms"] == pytest.approx(packages["numpy"]["p50"] - packages["plain"]["p50"], abs=0.01)


def _check_state(run: dict[str, Any]) -> None:
    assert run["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert all(run["memory"][name]["mean_mb"] > 0 for name in ("python", "bash"))
    crowd = run["crowd"]
    assert (crowd["sessions"], crowd["times"]["count"], crowd["sandbox"]["count"], crowd["errors"]) == (6, 6, 6, {})
    soak = run["soak"]
    assert (soak["executions"], soak["errors"]) == (20, {})
    # Other tests run at the same time: only what is the server's own can be compared.
    for what in ("processes", "sandboxes", "cgroups", "temporary_files"):
        assert soak["before"][what] == soak["after"][what], what
    assert {row["what"]: row["verdict"] for row in run["targets"]}["node hello, p50 paced"] == "not measured"


def _check_documents(run: Any, directory: Path) -> None:
    published = report.Published(latest=run, earlier=[])
    (directory / "docs").mkdir()
    for name in ("README.md", "docs/benchmarks.md"):
        shutil.copy(ROOT / name, directory / name)
    publish.write(published, directory)
    assert "| python hello |" in (directory / "README.md").read_text()
    assert "### Soak" in (directory / "docs/benchmarks.md").read_text()
    assert set(charts.draw(run)) == {"benchmarks-latency.svg", "benchmarks-throughput.svg"}


@pytest.mark.slow
def test_a_comparison_leaves_nothing(tmp_path: Path) -> None:
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("not a git repository")
    output, temporary = tmp_path / "compare.json", tmp_path / "temporary"
    temporary.mkdir()
    sizes = ["--runtime", "bash", "--pairs", "4", "--seconds", "0.5", "--clients", "2"]
    said = _run("bench.compare", "HEAD", *sizes, "--output", str(output), TMPDIR=str(temporary))
    assert "bash p50" in said
    found = json.loads(output.read_text())["runtimes"]["bash"]
    assert set(found["latency"]["ratios"]) == {"p50", "p95", "p99"}
    assert found["2 clients"]["this"]["errors"] == found["2 clients"]["that"]["errors"] == {}
    assert str(temporary) not in subprocess.check_output([*git, "worktree", "list"], text=True)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_comparison_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    """In the worst moment: while installers write into the revision's tree."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "bench.compare", "HEAD", "--output", str(tmp_path / "compare.json")]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)})
    try:
        machine.until(
            lambda: list(temporary.glob("*/tree/.venv/lib/*/site-packages/*")),
            "an environment in the making",
            LONGEST_S,
        )
    finally:
        process.terminate()
        assert process.wait(LONGEST_S) == 128 + signal.SIGTERM
    assert machine.running(str(temporary)) == set()
    assert list(temporary.iterdir()) == []
    assert str(temporary) not in subprocess.check_output(["git", "-C", str(ROOT), "worktree", "list"], text=True)
