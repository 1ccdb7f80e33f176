"""The charts of a run, by the name of their file."""

from __future__ import annotations

from collections.abc import Sequence

from bench.chart import Bar, Chart, Group
from bench.results import Results, Times

_OURS, _BARE = "isol8, a fresh sandbox each", "bare interpreter, no isolation"
_COLOURS = {_OURS: "#2f6fdb", _BARE: "#a3adba"}
_DOCKER = {_OURS: "#2f6fdb", "docker exec": "#e0a458", "docker run --rm": "#c2703d"}


def draw(results: Results) -> dict[str, str]:
    """SVG documents. What was not measured is left out."""
    charts = {"latency": _latency(results), "throughput": _throughput(results), "docker": _docker(results)}
    return {f"benchmarks-{name}.svg": chart.svg() for name, chart in charts.items() if chart}


def _bar(series: str, times: Times) -> Bar:
    return Bar(series, times["p50"], times["p99"])


def _latency(results: Results) -> Chart | None:
    groups = [
        Group(name, [_bar(_OURS, found["isol8"]), _bar(_BARE, found["bare"])])
        for name, found in results.get("latency", {}).items()
    ]
    note = (
        "One call each 20 ms, POST /execute until the whole answer. Bars: p50; thin lines: to p99. Shorter is better."
    )
    return _chart("How long a hello takes", note, "ms", groups)


def _throughput(results: Results) -> Chart | None:
    groups = [
        Group(
            f"{name}, {run['clients']} at once",
            [Bar(_OURS, run["isol8"]["per_s"]), Bar(_BARE, run["bare"]["per_s"])],
        )
        for name, runs in results.get("throughput", {}).items()
        for run in runs
    ]
    note = "Closed-loop clients, POST /execute, beside as many that start interpreters. Longer is better."
    return _chart("Hellos a second", note, "/s", groups)


def _chart(title: str, note: str, unit: str, groups: Sequence[Group]) -> Chart | None:
    return Chart(title, note, unit, _COLOURS, groups) if groups else None


def _docker(results: Results) -> Chart | None:
    found = results.get("docker", {})
    if "isol8" not in found or "run" not in found or "exec" not in found:
        return None
    bars = [_bar(_OURS, found["isol8"]), _bar("docker exec", found["exec"]), _bar("docker run --rm", found["run"])]
    note = "One call each 20 ms at most. docker exec is a container that is used again. Bars: p50; thin lines: to p99."
    return Chart("A Python hello beside Docker", note, "ms", _DOCKER, [Group("python", bars)])
