"""User ids: no two live sandboxes have the same, and what is set aside for an ordinary user is read as it stands."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import pytest

from isol8.engines.native import unprivileged
from isol8.engines.user_ids import FIRST, PROBE, IdRange, OneUser, UserIds
from isol8.errors import EngineFailure


def _range(blocks: int = 2, per_server: int = 3) -> IdRange:
    return IdRange(FIRST, per_server, blocks, f"isol8-test-{uuid.uuid4().hex}")


def test_no_two_are_the_same_and_the_longest_unused_comes_first() -> None:
    with contextlib.closing(UserIds(_range())) as ids:
        first, second, third = (ids.take() for _ in range(3))
        assert (first, second, third) == (FIRST, FIRST + 1, FIRST + 2)
        with pytest.raises(EngineFailure, match="every user id"):
            ids.take()
        ids.give_back(second)
        ids.give_back(first)
        assert ids.take() == first


def test_servers_that_share_a_range_share_no_id() -> None:
    shared = _range()
    with contextlib.closing(UserIds(shared)) as one, contextlib.closing(UserIds(shared)) as other:
        assert not {one.take() for _ in range(3)} & {other.take() for _ in range(3)}
        with pytest.raises(EngineFailure, match="too many"):
            UserIds(shared)
    with contextlib.closing(UserIds(shared)) as again:
        assert again.take() == FIRST


def test_without_ids_all_are_one() -> None:
    user = OneUser()
    assert user.take() == user.take()


def test_ids_that_are_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("other:100000:65536\nme:200000:1000\n1234:300000:65536\nme:nonsense\n\nme:400000:20\n")
    assert unprivileged._largest(str(file), "me", 1234) == (300_000, 65_536)
    assert unprivileged._largest(str(file), "me", 1) == (200_000, 1000)
    assert unprivileged._largest(str(file), "nobody", 1) == (0, 0)
    assert unprivileged._largest(str(tmp_path / "absent"), "me", 1) == (0, 0)


def test_the_range_given_to_sandboxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("me:200000:10000\n")
    monkeypatch.setattr(unprivileged, "_SET_ASIDE", (str(tmp_path / "subuid"), str(tmp_path / "subgid")))
    monkeypatch.setattr(unprivileged, "_MAPPERS", ("true", "true"))
    ids, maps = unprivileged._range("me", 1000, 1001)
    assert maps["newuidmap"] == ["0", "1000", "1", str(PROBE), "200000", "10000"]
    assert maps["newgidmap"] == ["0", "1001", "1", str(PROBE), "200000", "10000"]
    assert ids.first == FIRST
    assert ids.blocks * ids.per_server <= 9999
    assert ids.claim.endswith("-200000")


def test_too_few_ids_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, count in (("subuid", 65_536), ("subgid", 100)):
        (tmp_path / name).write_text(f"me:200000:{count}\n")
    monkeypatch.setattr(unprivileged, "_SET_ASIDE", (str(tmp_path / "subuid"), str(tmp_path / "subgid")))
    monkeypatch.setattr(unprivileged, "_MAPPERS", ("true", "true"))
    with pytest.raises(OSError, match="fewer than 1024"):
        unprivileged._range("me", 1000, 1001)


def test_the_programs_that_map_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unprivileged, "_MAPPERS", ("no-such-newuidmap", "true"))
    with pytest.raises(OSError, match="there is no no-such-newuidmap"):
        unprivileged._range("me", 1000, 1001)
