"""Isolation layers, whatever the engine: what they are worth here, and sentences about those that are missing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from isol8.engines.base import Layer, Need


@dataclass(frozen=True, slots=True)
class Description:
    """A layer, whatever the machine. `stops` says what a sandbox cannot do because of it."""

    name: str
    need: Need
    stops: str
    remedy: str


def judge(descriptions: Iterable[Description], problems: Mapping[str, str]) -> list[Layer]:
    """Every layer, given what is wrong with some."""
    return [
        Layer(each.name, each.need, False, problems[each.name], each.remedy)
        if each.name in problems
        else Layer(each.name, each.need, True, f"stops {each.stops}")
        for each in descriptions
    ]


def missing(layers: Iterable[Layer], tolerated: Container[Need]) -> list[Layer]:
    """Those that are not enforced and must be."""
    return [layer for layer in layers if not layer.enforced and layer.need not in tolerated]


def refusal(lacking: list[Layer], strict: bool) -> str:
    """Why the server does not start, with a line for each layer that is missing."""
    policy = 'policy.isolation is "strict"' if strict else 'even with policy.isolation "relaxed"'
    lines = [
        f"the server does not start: {policy}, and this machine does not enforce every layer",
        *map(sentence, lacking),
    ]
    if strict and all(layer.need is Need.STRICT for layer in lacking):
        lines.append('or accept weaker sandboxes: ISOL8_POLICY_ISOLATION=relaxed ("isol8 doctor" shows all layers)')
    return "\n  ".join(lines)


def sentence(layer: Layer) -> str:
    """What is missing and what to do, on one line."""
    return f"{layer.name} cannot be enforced ({layer.detail}); what to do: {layer.remedy}"
