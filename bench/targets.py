"""What is promised, as ratios within one run on two cores, and whether a run keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.results import TargetRow

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """`measure` takes the parts of a run, and raises LookupError when what it needs was not measured."""

    what: str
    reference: str
    at_least: float
    aim: float
    measure: Callable[[Found], float]
    unit: str = ""
    lower_is_better: bool = True

    def row(self, found: Found) -> TargetRow:
        """The target beside what a run found."""
        try:
            measured = self.measure(found)
        except LookupError:
            measured = None
        return TargetRow(
            what=self.what,
            reference=self.reference,
            measured=measured,
            unit=self.unit,
            at_least=self.at_least,
            aim=self.aim,
            lower_is_better=self.lower_is_better,
            verdict=self._judge(measured),
        )

    def _judge(self, measured: float | None) -> str:
        if measured is None:
            return "not measured"
        sign = 1 if self.lower_is_better else -1
        if measured * sign <= self.aim * sign:
            return "aim reached"
        return "met" if measured * sign <= self.at_least * sign else "not met"


def _paced(runtime: str, ratio: str = "p50_ratio") -> Callable[[Found], float]:
    return lambda found: float(found["latency"][runtime][ratio]["value"])


def _busy(runtime: str, clients: int, ratio: str) -> Callable[[Found], float]:
    def look(found: Found) -> float:
        runs = [run for run in found["throughput"][runtime] if run["clients"] == clients]
        return float(runs[0][ratio]["value"])

    return look


def _per_second(runtime: str, at_least: float, aim: float) -> Target:
    return Target(
        f"{runtime} executions per second, 8 clients",
        "bare spawns per second, 8 at once",
        at_least,
        aim,
        _busy(runtime, 8, "ratio"),
        lower_is_better=False,
    )


def _beside(part: str, reference: str) -> Callable[[Found], float]:
    return lambda found: float(found[part]["engine"]["p50"] / found[part][reference]["p50"])


TARGETS = (
    Target("python hello, p50 paced", "bare `/usr/bin/python3 -I` p50", 0.45, 0.20, _paced("python")),
    Target("python hello, p99 paced", "bare p50", 1.0, 0.5, _paced("python", "p99_ratio")),
    Target("node hello, p50 paced", "bare `node` p50", 0.25, 0.10, _paced("node")),
    Target("bun hello, p50 paced", "bare `bun` p50", 0.6, 0.3, _paced("bun")),
    Target("deno hello, p50 paced", "bare `deno` p50", 0.6, 0.3, _paced("deno")),
    Target("bash hello, p50 paced", "bare `bash` p50", 2.5, 1.2, _paced("bash")),
    Target("python hello on the Docker engine, p50", "`docker exec` p50", 0.25, 0.15, _beside("docker", "exec")),
    Target("the same beside a container made for it", "`docker run` p50", 0.1, 0.05, _beside("docker", "run")),
    Target("python hello on the gVisor engine, p50", "`runsc do` p50", 0.5, 0.1, _beside("gvisor", "do")),
    _per_second("python", 1.2, 3),
    _per_second("node", 0.9, 1.5),
    Target(
        "python hello with installed packages, p50 over that of a plain hello",
        "",
        15.0,
        5.0,
        lambda found: float(found["packages"]["numpy_more_ms"]),
        unit="ms",
    ),
    Target(
        "`import pandas` imported ahead, p50",
        "bare `/usr/bin/python3 -I` importing it, p50",
        0.1,
        0.05,
        lambda found: float(found["packages"]["pandas_ratio"]["value"]),
    ),
    Target(
        "1,000 sessions created, 16 clients, each answering its first hello",
        "the time 1,000 bare spawns take, 8 at once",
        1.0,
        0.4,
        lambda found: float(found["crowd"]["ratio"]["value"]),
    ),
    Target(
        "memory of an idle sandbox (PSS, python)",
        "",
        5.0,
        2.0,
        lambda found: float(found["memory"]["python"]["mean_mb"]),
        unit="MB",
    ),
    Target("python, 64 clients: p99", "p50 of the same run", 4.0, 2.5, _busy("python", 64, "p99_to_p50")),
    Target("node, 64 clients: p99", "p50 of the same run", 4.0, 2.5, _busy("node", 64, "p99_to_p50")),
    Target(
        "soak: p50 of the last 1,000, beside bare interpreters",
        "the same of the first 1,000",
        1.1,
        1.02,
        lambda found: float(found["soak"]["drift_beside_bare"]["value"]),
    ),
)


def judge(found: Found) -> list[TargetRow]:
    """Every target beside what the parts of a run found."""
    return [target.row(found) for target in TARGETS]
