"""Targets, tables, charts and publishing of the benchmarks."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import charts, publish, report
from bench.chart import Bar, Chart, Group, nice_step, short
from bench.publish import NotPublishable
from bench.results import TargetRow
from bench.targets import judge
from tests.unit import bench_run

SVG = "{http://www.w3.org/2000/svg}"


def _verdicts(rows: list[TargetRow]) -> dict[str, str]:
    return {row["what"]: row["verdict"] for row in rows}


@pytest.mark.parametrize(
    ("measured", "verdict"), [(0.2, "aim reached"), (0.21, "met"), (0.45, "met"), (0.451, "not met")]
)
def test_lower_is_better_for_times(measured: float, verdict: str) -> None:
    assert _verdicts(bench_run.make(python=measured)["targets"])["python hello, p50 paced"] == verdict


@pytest.mark.parametrize(("measured", "verdict"), [(3.0, "aim reached"), (1.2, "met"), (1.19, "not met")])
def test_higher_is_better_for_rates(measured: float, verdict: str) -> None:
    run = bench_run.make()
    run["throughput"]["python"][0]["ratio"] = bench_run.ratio(measured)
    assert _verdicts(judge(run))["python executions per second, 8 clients"] == verdict


def test_what_was_not_measured_is_never_met() -> None:
    assert set(_verdicts(judge({})).values()) == {"not measured"}
    rows = _verdicts(bench_run.make()["targets"])
    assert rows["node hello, p50 paced"] == "not measured"
    assert rows["python, 64 clients: p99"] == "met"


def test_every_row_of_the_targets_is_shown_with_its_verdict_and_the_runs_before() -> None:
    published = publish.roll(bench_run.make(python=0.5), None)
    published = publish.roll(bench_run.make("2026-11-25T12:00:00+00:00", python=0.4), published)
    text = report.document(published)
    assert "| python hello, p50 paced | bare `/usr/bin/python3 -I` p50 | ≤ 0.45 | ≤ 0.2 | 0.40 | 0.50 | met |" in text
    assert (
        "| node hello, p50 paced | bare `node` p50 | ≤ 0.25 | ≤ 0.1 | not measured | not measured | not measured |"
        in text
    )
    assert "Earlier run: 2026-11-24T12:00:00+00:00, revision `abc1234`" in text
    assert "**not met**" in report.document(publish.roll(bench_run.make(python=0.5), None))


def test_every_part_has_its_section_and_tables_are_whole() -> None:
    text = report.document(publish.roll(bench_run.make(), None))
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert len(headings) == 13
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for above, below in itertools.pairwise(rows):
        if below.startswith("| ---"):
            assert above.count("|") == below.count("|")
    assert "2 cores of Some processor" in text
    short_form = report.readme(publish.roll(bench_run.make(), None))
    assert "| python hello | 3.00 ms | 9.00 ms | 10.0 ms | 0.30 |" in short_form
    assert "| python, 8 clients | 200/s | 100/s | 2.00 |" in short_form


def test_a_part_that_is_missing_has_no_section() -> None:
    run = bench_run.make()
    del run["soak"]
    run["docker"] = {"skipped": "no Docker daemon answers"}
    text = report.document(publish.roll(run, None))
    assert "### Soak" not in text
    assert "Docker was not measured: no Docker daemon answers." in text


def test_figures_go_between_the_markers_alone() -> None:
    document = f"above\n{report._MARKER}\nold\n{report._END}\nbelow\n"
    filled = report.fill(document, "new\n")
    assert filled == f"above\n{report._MARKER}\n\nnew\n\n{report._END}\nbelow\n"
    assert report.fill(filled, "new\n") == filled
    assert report.fill(filled, "") == f"above\n{report._MARKER}\n\n{report._END}\nbelow\n"
    with pytest.raises(ValueError, match="no place"):
        report.fill("nothing", "new")


def test_a_chart_begins_at_zero_and_its_bars_are_as_long_as_their_values() -> None:
    chart = Chart("Title <&>", "", "ms", {"a": "#111111", "b": "#222222"}, [
        Group("one", [Bar("a", 10.0, 30.0), Bar("b", 20.0)]),
        Group("two", [Bar("a", 5.0), Bar("b", 40.0, 40.0)]),
    ])  # fmt: skip
    root = ET.fromstring(chart.svg())
    bars = [each for each in root.iter(f"{SVG}rect") if each.get("height") == "17"]
    widths = [float(bar.get("width", "")) for bar in bars]
    assert len({bar.get("x") for bar in bars}) == 1
    # Lengths are proportional to values: nothing is cut off at the bottom.
    assert [width / widths[3] for width in widths] == pytest.approx([10 / 40, 20 / 40, 5 / 40, 1], abs=0.001)
    labels = [each.text for each in root.iter(f"{SVG}text")]
    assert {"Title <&>", "0 ms", "10.0 ms, p99 30.0", "20.0 ms"} <= set(labels)
    (zero,) = (line for line in root.iter(f"{SVG}line") if line.get("class") == "zero")
    assert float(zero.get("x1", "")) == float(bars[0].get("x", ""))
    reaches = [line for line in root.iter(f"{SVG}line") if line.get("class") == "reach"]
    assert float(reaches[0].get("x2", "")) - float(zero.get("x1", "")) == pytest.approx(widths[0] * 3, abs=0.2)


def test_charts_stay_inside_their_frame() -> None:
    for svg in charts.draw(bench_run.make()).values():
        root = ET.fromstring(svg)
        width, height = (float(root.get(name, "")) for name in ("width", "height"))
        for shape in root.iter(f"{SVG}rect"):
            assert float(shape.get("x", "")) + float(shape.get("width", "")) <= width
            assert float(shape.get("y", "")) + float(shape.get("height", "")) <= height
        for text in root.iter(f"{SVG}text"):
            assert float(text.get("x", "")) < width
            assert float(text.get("y", "")) < height


def test_charts_are_drawn_of_what_was_measured() -> None:
    run = bench_run.make()
    assert set(charts.draw(run)) == {f"benchmarks-{name}.svg" for name in ("latency", "throughput", "docker")}
    del run["throughput"]
    run["docker"] = {"skipped": "no daemon"}
    assert set(charts.draw(run)) == {"benchmarks-latency.svg"}


@pytest.mark.parametrize(("most", "step"), [(6.0, 1.0), (57.0, 10.0), (9.0, 2.0), (0.5, 0.1), (290.0, 50.0)])
def test_ticks_are_round(most: float, step: float) -> None:
    assert nice_step(most) == pytest.approx(step)


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing"):
        nice_step(0)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")]
)
def test_three_digits(value: float, text: str) -> None:
    assert short(value) == text


def _changed(**changes: Any) -> dict[str, Any]:
    return {**bench_run.make(), **changes}


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (_changed(schema=0), "another version"),
        (_changed(commit="abc1234+"), "not committed"),
        (_changed(commit="unknown"), "not committed"),
        (_changed(options={**bench_run.make()["options"], "pairs": 60}), "pairs"),
        (_changed(options={**bench_run.make()["options"], "clients": [8]}), "clients"),
        ({name: value for name, value in bench_run.make().items() if name != "soak"}, "no soak"),
    ],
)
def test_runs_that_are_not_shown(run: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotPublishable, match=reason):
        publish.check(run)


def test_a_usual_run_is_shown() -> None:
    publish.check(json.loads(json.dumps(bench_run.make())))


def test_three_runs_are_kept_and_those_of_other_machines_are_not() -> None:
    published = None
    for day in range(10, 15):
        published = publish.roll(bench_run.make(f"2026-11-{day}T12:00:00+00:00"), published)
    assert published is not None
    assert published["latest"]["at"].startswith("2026-11-14")
    assert [run["at"][:10] for run in published["earlier"]] == ["2026-11-13", "2026-11-12"]
    again = publish.roll(published["latest"], published)
    assert [run["at"][:10] for run in again["earlier"]] == ["2026-11-13", "2026-11-12"]
    elsewhere = publish.roll(bench_run.make("2026-11-20T12:00:00+00:00", cpu="Another"), published)
    assert elsewhere["earlier"] == []


def test_publishing_writes_every_document(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/benchmarks.md"):
        (tmp_path / name).write_text(f"{report._MARKER}\n{report._END}\n")
    published = publish.roll(bench_run.make(), None)
    publish.write(published, tmp_path)
    assert publish.load(tmp_path) == json.loads(json.dumps(published))
    assert "python hello" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "docs/benchmarks-docker.svg").read_text().startswith("<svg")
    assert publish.rendered(published, tmp_path)["README.md"] == (tmp_path / "README.md").read_text()
