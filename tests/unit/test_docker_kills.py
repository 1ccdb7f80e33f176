"""What the daemon tells of kills for memory: which containers it is about, and whether there will be more."""

from __future__ import annotations

import asyncio
from typing import Any

from isol8.engines.docker.client import Place
from isol8.engines.docker.description import HOME_LABEL, LABEL
from isol8.engines.docker.kills import Kills

OWN = {LABEL: "machine/me", HOME_LABEL: "home"}


def event(action: str, container: str, **labels: str) -> dict[str, Any]:
    return {"Action": action, "id": container, "Actor": {"ID": container, "Attributes": {"exitCode": "137", **labels}}}


async def test_whose_kills_are_counted() -> None:
    """A container that was taken over has the label of the server that made it, and that of the home they share."""
    heard: list[str] = []
    kills = Kills(Place(), OWN, heard.append)
    kills._listening = True
    kills._take(event("oom", "mine", **{LABEL: "machine/me"}))
    kills._take(event("oom", "taken over", **{LABEL: "machine/dead", HOME_LABEL: "home"}))
    kills._take(event("oom", "another's", **{LABEL: "machine/other", HOME_LABEL: "elsewhere"}))
    kills._take(event("oom", "nobody's"))
    assert heard == ["mine", "taken over"]
    assert [await kills.of(name, ending=False) for name in ("mine", "taken over", "another's", "nobody's")] == [
        1,
        1,
        0,
        0,
    ]


async def test_one_that_was_taken_over_ends() -> None:
    """Who asks has the answer with the daemon's word, however late that is."""
    kills = Kills(Place(), OWN, lambda container: None)
    kills._listening = True
    asking = asyncio.create_task(kills.of("taken over", ending=True))
    await asyncio.sleep(0)
    labels = {LABEL: "machine/dead", HOME_LABEL: "home"}
    kills._take(event("oom", "taken over", **labels))
    assert not asking.done()
    kills._take(event("die", "taken over", **labels))
    assert await asking == 1
