"""Kills for memory that a daemon tells of, in whichever order it tells of what happened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from isol8.engines.docker.client import Place
from isol8.engines.docker.kills import Kills

OOM = {"id": "one", "Action": "oom"}
END = {"id": "one", "Action": "die"}


@pytest.mark.parametrize(
    ("events", "kills"),
    [
        ([OOM, END], 1),
        ([END, OOM], 1),
        ([OOM, OOM, END], 2),
        ([END], 0),
        ([{"id": "another", "Action": "oom"}, END], 0),
    ],
)
async def test_they_are_counted_in_whatever_order_they_are_told_of(events: list[dict[str, Any]], kills: int) -> None:
    counting = Kills(Place(), "label")
    asked = asyncio.create_task(counting.of("one", ending=True))
    for event in events:
        await asyncio.sleep(0)
        counting._take(event)
    assert (await asked > 0) == (kills > 0)
    assert await counting.of("one", ending=True) == kills


async def test_one_that_has_not_ended_is_not_waited_for() -> None:
    counting = Kills(Place(), "label")
    assert await counting.of("one", ending=False) == 0
    counting._take(OOM)
    assert await counting.of("one", ending=False) == 1
