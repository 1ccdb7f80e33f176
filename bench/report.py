"""A run as Markdown: what stands between the markers of docs/benchmarks.md and of the README."""

from __future__ import annotations

from typing import TypedDict

from bench import tables
from bench.chart import short
from bench.results import Machine, Results, TargetRow

_MARKER, _END = "<!-- figures: written by `make bench-publish`, never by hand -->", "<!-- /figures -->"


class Earlier(TypedDict):
    """What is kept of a run when a newer one is published."""

    at: str
    commit: str
    machine: Machine
    targets: list[TargetRow]


class Published(TypedDict):
    """docs/benchmarks.json. `earlier` are the two runs before the latest, newest first."""

    latest: Results
    earlier: list[Earlier]


def fill(document: str, text: str) -> str:
    """The document with the text between its markers. Raises ValueError when it does not have them."""
    before, start, rest = document.partition(_MARKER)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"no place for figures: {_MARKER} … {_END}")
    body = f"{text.strip()}\n\n" if text else ""
    return f"{before}{_MARKER}\n\n{body}{_END}{after}"


def _provenance(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"Measured {results['at']} at revision `{results['commit']}` in {results['took_s']:.0f} s, on"
        f" {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']:g} GB, {machine['kernel']},"
        f" {machine['system']}. Just before the run the load average was {machine['load_before']:g} and"
        f" {machine['busy_before']:.0%} of the processors were in use; during it the hypervisor withheld"
        f" {machine['stolen']:.1%} of processor time. {versions}. As numbers:"
        " [benchmarks.json](benchmarks.json).\n"
    )


def readme(published: Published) -> str:
    """The short form."""
    latest = published["latest"]
    machine = latest["machine"]
    rows = [
        [
            f"{name} hello",
            f"{short(found['isol8']['p50'])} ms",
            f"{short(found['isol8']['p99'])} ms",
            f"{short(found['bare']['p50'])} ms",
            short(found["p50_ratio"]["value"]),
        ]
        for name, found in latest.get("latency", {}).items()
    ]
    rates = [
        [
            f"{name}, {run['clients']} clients",
            f"{run['isol8']['per_s']:.0f}/s",
            f"{run['bare']['per_s']:.0f}/s",
            short(run["ratio"]["value"]),
        ]
        for name, runs in latest.get("throughput", {}).items()
        for run in runs
    ]
    heads = ["one caller, over HTTP, a fresh sandbox each", "p50", "p99", "bare interpreter, p50", "ratio of p50"]
    rate_heads = ["executions a second", "isol8", "bare interpreters", "ratio"]
    return (
        "![How long a hello takes](docs/benchmarks-latency.svg)\n\n"
        f"On {machine['cores']} cores of {machine['cpu']}, {latest['at'][:10]}. Bare is the same interpreter, started"
        " with no isolation at all; its times and ours were taken in turns.\n\n"
        + tables.table(heads, rows)
        + "\n"
        + tables.table(rate_heads, rates)
    )


def document(published: Published) -> str:
    """The long form: everything of the latest run, and the targets in all runs that are kept."""
    latest = published["latest"]
    return "\n".join([_provenance(latest), _targets(published), *tables.sections(latest)])


def _targets(published: Published) -> str:
    def row(target: TargetRow, earlier: list[float | None]) -> list[str]:
        sign = "≤" if target["lower_is_better"] else "≥"
        bounds = [f"{sign} {target[name]:g} {target['unit']}".strip() for name in ("at_least", "aim")]
        shown = [_measured(target["measured"]), ", ".join(map(_measured, earlier)) or "none"]
        verdict = target["verdict"] if target["verdict"] != "not met" else "**not met**"
        return [target["what"], target["reference"] or "-", *bounds, *shown, verdict]

    before = [{each["what"]: each["measured"] for each in run["targets"]} for run in published["earlier"]]
    rows = [row(each, [run.get(each["what"]) for run in before]) for each in published["latest"]["targets"]]
    heads = ["what", "reference", "at least", "aim", "measured", "earlier runs", "verdict"]
    runs = "".join(
        f"Earlier run: {run['at']}, revision `{run['commit']}`, on the same kind of machine.\n\n"
        for run in published["earlier"]
    )
    return f"### Targets\n\n{tables.table(heads, rows)}\n{runs}".rstrip() + "\n"


def _measured(value: float | None) -> str:
    return "not measured" if value is None else short(value)
