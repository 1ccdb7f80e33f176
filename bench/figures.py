"""The arithmetic: percentiles that are right for few calls too, ratios, and how far they can be trusted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

from bench.results import Ratio, Times

RESAMPLES = 1000
_SEED = 20  # the same figures give the same interval


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Of figures in rising order, by nearest rank: the smallest that at least `percent` of all do not exceed.

    Raises ValueError when there is none."""
    if not ordered:
        raise ValueError("no figures")
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def summarise(times_ms: Sequence[float]) -> Times:
    """Raises ValueError when there is none."""
    ordered = sorted(times_ms)
    p50, p95, p99 = (round(percentile(ordered, percent), 3) for percent in (50, 95, 99))
    return Times(count=len(ordered), min=round(ordered[0], 3), p50=p50, p95=p95, p99=p99, max=round(ordered[-1], 3))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float], percent: int, of: int) -> Ratio:
    """Our percentile `percent` divided by their percentile `of`, where call number i of both were neighbours. The
    interval is a bootstrap: pairs are drawn with replacement, and stay pairs because they share the machine's mood."""
    if len(ours) != len(theirs):
        raise ValueError("calls are not in pairs")
    chance = random.Random(_SEED)
    places = range(len(ours))
    drawn = []
    for _ in range(RESAMPLES):
        chosen = chance.choices(places, k=len(places))
        drawn.append(_ratio([ours[i] for i in chosen], [theirs[i] for i in chosen], percent, of))
    return _spread(_ratio(ours, theirs, percent, of), drawn)


def apart_ratio(ours: Sequence[float], theirs: Sequence[float], percent: int) -> Ratio:
    """The same percentile of two groups that are not in pairs, each drawn from by itself."""
    chance = random.Random(_SEED)
    drawn = [
        _ratio(chance.choices(ours, k=len(ours)), chance.choices(theirs, k=len(theirs)), percent, percent)
        for _ in range(RESAMPLES)
    ]
    return _spread(_ratio(ours, theirs, percent, percent), drawn)


def _ratio(ours: Sequence[float], theirs: Sequence[float], percent: int, of: int) -> float:
    return percentile(sorted(ours), percent) / percentile(sorted(theirs), of)


def _spread(value: float, drawn: list[float]) -> Ratio:
    drawn.sort()
    low, high = drawn[int(len(drawn) * 0.025)], drawn[-int(len(drawn) * 0.025) - 1]
    return Ratio(value=round(value, 4), low=round(low, 4), high=round(high, 4))


def quotient(above: Ratio, below: Ratio) -> Ratio:
    """Of two ratios. Its ends are the furthest that theirs allow."""
    value, low, high = above["value"] / below["value"], above["low"] / below["high"], above["high"] / below["low"]
    return Ratio(value=round(value, 4), low=round(low, 4), high=round(high, 4))


def sliced_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of figures from slices that alternated: the median of the neighbours' ratios, which a moment's trouble of the
    machine does not move, and the lowest and highest of them, which show it. Raises ZeroDivisionError when they did
    nothing in a slice."""
    ratios = [mine / reference for mine, reference in zip(ours, theirs, strict=True)]
    return Ratio(value=round(median(ratios), 4), low=round(min(ratios), 4), high=round(max(ratios), 4))
