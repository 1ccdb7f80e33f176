"""The arithmetic of the benchmarks, against answers worked out by hand."""

from __future__ import annotations

import random

import pytest

from bench.bare import Calls
from bench.figures import apart_ratio, paired_ratio, percentile, quotient, sliced_ratio, summarise
from bench.paced import INTERVAL_S, in_turn
from bench.results import Ratio
from bench.throughput import Slices, alternate


@pytest.mark.parametrize(
    ("figures", "percent", "expected"),
    [
        ([1.0], 50, 1.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([1.0, 2.0, 3.0], 1, 1.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 95, 95.0),
        ([float(n) for n in range(1, 100)], 99, 99.0),  # 98 of 99 are less than 99 %
        ([float(n) for n in range(1, 21)], 99, 20.0),
        ([float(n) for n in range(1, 201)], 99, 198.0),
        ([5.0, 6.0], 100, 6.0),
    ],
)
def test_percentiles_are_by_nearest_rank(figures: list[float], percent: int, expected: float) -> None:
    assert percentile(figures, percent) == expected

    # The definition: at least so many do not exceed it, and of no smaller figure is that true.
    def share(limit: float) -> float:
        return sum(figure <= limit for figure in figures) * 100

    assert share(expected) >= percent * len(figures)
    assert all(share(figure) < percent * len(figures) for figure in figures if figure < expected)


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no figures"):
        percentile([], 50)


def test_a_summary_does_not_need_order() -> None:
    found = summarise([3.0, 1.0, 2.0, 10.0])
    assert found == {"count": 4, "min": 1.0, "p50": 2.0, "p95": 10.0, "p99": 10.0, "max": 10.0}


def test_ratio_of_pairs() -> None:
    ours, theirs = [1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]
    # Each of ours is a tenth of its neighbour: however pairs are drawn, the ratio is the same.
    assert paired_ratio(ours, theirs, 50, of=50) == {"value": 0.1, "low": 0.1, "high": 0.1}
    assert paired_ratio(ours, theirs, 99, of=50)["value"] == 0.2
    with pytest.raises(ValueError, match="pairs"):
        paired_ratio([1.0], [1.0, 2.0], 50, of=50)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(40):
        ours = [chance.lognormvariate(0.0, 0.3) for _ in range(30)]
        theirs = [2 * chance.lognormvariate(0.0, 0.3) for _ in range(30)]
        found = apart_ratio(ours, theirs, 50)
        assert found["low"] <= found["value"] <= found["high"]
        held += found["low"] <= 0.5 <= found["high"]
    assert held >= 34  # 38 are expected


def test_ratio_of_slices() -> None:
    assert sliced_ratio([2.0, 4.0, 3.0], [1.0, 1.0, 1.0]) == {"value": 3.0, "low": 2.0, "high": 4.0}
    # Neighbours are compared: a machine that slows down to a tenth changes nothing.
    assert sliced_ratio([20.0, 2.0], [10.0, 1.0]) == {"value": 2.0, "low": 2.0, "high": 2.0}
    # One slice in which they were held up does not flatter us.
    assert sliced_ratio([2.0, 2.0, 2.0], [4.0, 4.0, 0.5])["value"] == 0.5
    with pytest.raises(ZeroDivisionError):
        sliced_ratio([1.0], [0.0])


def test_paced_calls_take_turns_at_the_pace() -> None:
    order: list[str] = []

    def call(name: str) -> float:
        order.append(name)
        return float(len(order))

    first, second = in_turn([lambda: call("a"), lambda: call("b")], 4, warm_up=1)
    # The first pair is the one that is not counted.
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]
    assert (first, second) == ([3.0, 6.0, 7.0, 10.0], [4.0, 5.0, 8.0, 9.0])
    assert INTERVAL_S == 0.02


def test_only_what_ends_within_a_slice_counts() -> None:
    slices = Slices()
    calls = Calls(spans=[(0.0, 0.4), (0.2, 0.6), (0.9, 1.4), (1.4, 1.6)], own_cpu_s=0.004)
    calls.fail("503")
    slices.add(calls, 0.5, 1.5)
    found = slices.rate()
    assert (found["per_s"], found["errors"], found["calls"]) == (2.0, {"503": 1}, 4)
    assert (found["times"]["min"], found["times"]["max"]) == (400.0, 500.0)
    assert found["own_cpu_us"] == 1000.0


def test_slices_alternate_and_turn_around() -> None:
    order: list[tuple[str, float]] = []

    def run(name: str, begin: float, end: float) -> Calls:
        order.append((name, round(end - begin, 2)))
        return Calls(spans=[(begin, end - 0.01)])

    alternate([lambda b, e: run("ours", b, e), lambda b, e: run("bare", b, e)], 0.6, 0.5, slice_s=0.2)
    lead_in = 0.5
    ours, bare = ("ours", lead_in + 0.2), ("bare", lead_in + 0.1)
    assert order == [ours, bare, bare, ours, ours, bare]


def test_the_quotient_of_two_ratios_is_as_uncertain_as_both() -> None:
    above, below = Ratio(value=1.2, low=1.0, high=1.5), Ratio(value=1.0, low=0.8, high=1.25)
    assert quotient(above, below) == Ratio(value=1.2, low=0.8, high=1.875)
