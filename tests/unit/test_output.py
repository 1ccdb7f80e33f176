"""The output filter gives for pieces what it would give for the whole, and leaks no secret."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.service.output import MASK, OutputFilter

CUTS = st.lists(st.integers(min_value=0, max_value=200), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


def filtered(parts: list[bytes], limit: int = 1 << 20, secrets: tuple[str, ...] = ()) -> tuple[str, bool]:
    stream = OutputFilter(limit, secrets)
    text = "".join([stream.feed(part) for part in parts]) + stream.finish()
    return text, stream.truncated


@given(st.binary(max_size=200), CUTS)
def test_text_does_not_depend_on_the_pieces(data: bytes, cuts: list[int]) -> None:
    assert filtered(pieces(data, cuts)) == (data.decode(errors="replace"), False)


@given(st.text(alphabet="aé€😀\0", max_size=60), CUTS)
def test_characters_survive_being_split(text: str, cuts: list[int]) -> None:
    assert filtered(pieces(text.encode(), cuts)) == (text, False)


@given(
    st.text(alphabet="abc", max_size=60),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1, max_size=4),
    CUTS,
)
def test_masking_does_not_depend_on_the_pieces(text: str, secrets: list[str], cuts: list[int]) -> None:
    longest_first = "|".join(sorted(secrets, key=len, reverse=True))
    expected = re.sub(longest_first, MASK, text)
    assert filtered(pieces(text.encode(), cuts), secrets=tuple(secrets)) == (expected, False)


@given(st.text(alphabet="abc", max_size=60), st.text(alphabet="abc", min_size=3, max_size=5), CUTS)
def test_no_piece_ever_gives_out_a_secret(text: str, secret: str, cuts: list[int]) -> None:
    stream = OutputFilter(1 << 20, [secret])
    given_out = ""
    for part in pieces(text.encode(), cuts):
        given_out += stream.feed(part)
        assert secret not in given_out


@given(st.binary(max_size=200), CUTS, st.integers(min_value=1, max_value=200))
def test_the_cap_keeps_the_first_part(data: bytes, cuts: list[int], limit: int) -> None:
    text, truncated = filtered(pieces(data, cuts), limit)
    assert truncated == (len(data) > limit)
    kept = data[:limit].decode(errors="replace")
    assert text == kept or (truncated and kept.rstrip("\ufffd") == text.rstrip("\ufffd"))


def test_nothing_is_held_back_without_need() -> None:
    stream = OutputFilter(100, ["secret"])
    assert stream.feed(b"no such thing se") == "no such thing "
    assert stream.feed(b"t; sec") == "set; "
    assert stream.feed(b"ret.") == f"{MASK}."


def test_a_cut_does_not_show_half_a_secret() -> None:
    assert filtered([b"key: secret"], 9, ("secret",)) == ("key: ", True)


def test_a_cut_drops_half_a_character() -> None:
    assert filtered(["a€".encode()], 3) == ("a", True)


def test_empty_secrets_mask_nothing() -> None:
    assert filtered([b"text"], secrets=("",)) == ("text", False)


def test_secrets_are_no_patterns() -> None:
    assert filtered([b"a.c abc"], secrets=("a.c",)) == ("*** abc", False)


@pytest.mark.parametrize(("text", "at_start"), [(b"", True), (b"a", False), (b"a\n", True)])
def test_it_knows_where_a_line_starts(text: bytes, at_start: bool) -> None:
    stream = OutputFilter(10)
    stream.feed(text)
    assert stream.at_line_start is at_start
