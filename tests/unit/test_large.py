"""Large bodies: read in pieces they are what they would be if read at once, and are refused where that would be."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isol8.api.connection import BodyBounds
from isol8.config import Policy
from isol8.errors import Forbidden, InvalidRequest, Isol8Error
from isol8.wire.large import LargeBody
from isol8.wire.parcel import PIECE_BYTES
from isol8.wire.request import DownloadQuery, ExecuteBody, Parsed, UploadBody, parse

BOUNDS = BodyBounds.of(Policy())


def read(model: type[Parsed], document: bytes, cuts: list[int] | None = None) -> Parsed:
    large = LargeBody(BOUNDS.rest, BOUNDS.strings, BOUNDS.values)
    places = sorted({0, len(document), *(cuts or [])})
    for start, end in pairwise(places):
        large.feed(document[start:end])
    steps = large.restore(large.parse(model))
    while True:
        try:
            next(steps)
        except StopIteration as done:
            body: Parsed = done.value
            return body


# Long and short, around the lengths at which things are set aside, of whatever is hard to cut: escapes, pairs of them,
# characters of several bytes, quotes, backslashes before quotes.
ALPHABET = st.sampled_from(["a", "0", ",", "[", "{", '"', "\\", "/", "\n", "\0", "é", "\u2028", "🙂", "\x7f", " "])
LENGTHS = st.sampled_from([0, 1, 3, 255, 256, 4000, 4094, 4095, 4096, 4097, 70_000])
TEXTS = st.builds(
    lambda unit, length, tail: (unit * (length // len(unit) + 1))[:length] + tail,
    st.lists(ALPHABET, min_size=1, max_size=7).map("".join),
    LENGTHS,
    st.sampled_from(["", "x", "\\", '"', "🙂"]),
)
VALUES = TEXTS.map(lambda text: text.replace("\0", "0")[:30_000])  # what the kernel takes as one variable
BLOBS = st.builds(lambda unit, length: (unit * (length // len(unit) + 1))[:length], st.binary(min_size=1), LENGTHS)
CONTENTS = st.one_of(
    TEXTS,
    BLOBS.map(lambda blob: {"base64": base64.b64encode(blob).decode()}),
    BLOBS.map(lambda blob: {"type": "Buffer", "data": list(blob)}),
)
REQUESTS = st.fixed_dictionaries(
    {"code": TEXTS.filter(bool), "runtime": st.just("python")},
    optional={
        "stdin": TEXTS,
        "setupScript": TEXTS,
        "files": st.dictionaries(st.sampled_from([f"/sandbox/{n}" for n in range(4)]), CONTENTS, max_size=4),
        "env": st.dictionaries(st.sampled_from("ABC"), VALUES, max_size=3),
        "metadata": st.dictionaries(st.sampled_from("ABC"), TEXTS, max_size=2),
    },
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """JSON as different writers write it."""
    tree: dict[str, Any] = {"request": draw(REQUESTS)}
    if draw(st.booleans()):
        tree["options"] = {"secrets": {"S": draw(VALUES)}}
    text = json.dumps(tree, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    if draw(st.booleans()):
        text = text.replace("/", "\\/")
    return text.encode()


@settings(max_examples=80)
@given(documents(), st.lists(st.integers(0, 300_000), max_size=12))
def test_cut_anywhere_it_is_what_it_is_at_once(document: bytes, cuts: list[int]) -> None:
    assert read(ExecuteBody, document, [cut % (len(document) + 1) for cut in cuts]) == parse(ExecuteBody, document)


@settings(max_examples=80)
@given(documents(), st.data())
def test_what_is_refused_at_once_is_refused_in_pieces(document: bytes, data: st.DataObject) -> None:
    """One to three bytes are changed, anywhere: then it is refused, or it is the same."""
    damaged = bytearray(document)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b'"', b"\\", b"\xff", b"\xed\xa0\x80", b"\n", b"=", b",", b"]", b"}", b"\\ud800", b"\0"])
        )
    document = bytes(damaged)
    try:
        found = read(ExecuteBody, document, [data.draw(st.integers(0, len(document)))])
    except Isol8Error:
        return
    assert found == parse(ExecuteBody, document)


def document(content: bytes, before: bytes = b"") -> bytes:
    return b'{"request":{"cmd":"true",%b"files":{"/sandbox/a":%b}}}' % (before, content)


LONG = b"A" * 70_000
NUMBERS = b"7," * 40_000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"base64":"%b*"}' % LONG, "request.files./sandbox/a is not base64"),
        (b'{"base64":"%b="}' % LONG, "request.files./sandbox/a is not base64"),
        (b'{"base64":"%b"}' % (LONG[:-1] + b"A=" + LONG), "request.files./sandbox/a is not base64"),
        (b'{"base64":"%b=="}' % LONG[:-1], "request.files./sandbox/a is not base64"),
        (b'{"base64":"\xc3\xa9%b"}' % LONG, "request.files./sandbox/a is not base64"),
        (b'{"base64":"\xff%b"}' % LONG, "request.files./sandbox/a is not base64"),
        (b'{"type":"Buffer","data":[%b256]}' % NUMBERS, "must have numbers from 0 to 255"),
        (b'{"type":"Buffer","data":[%b]}' % NUMBERS, "The body is not valid JSON"),
        (b'{"type":"Buffer","data":[%b,1]}' % NUMBERS, "The body is not valid JSON"),
        (b'{"type":"Buffer","data":[%b01]}' % NUMBERS, "The body is not valid JSON"),
        (b'{"type":"Buffer","data":[%b1 2]}' % NUMBERS, "The body is not valid JSON"),
        (b'{"type":"Buffer","data":[%b-1]}' % NUMBERS, "The body is not valid JSON"),
        (b'{"type":"Buffer","data":[%b%b]}' % (NUMBERS, b"1" * 200_000), ""),
        (b"[%b1]" % NUMBERS, "must be text"),
        (b'"%b\\ud800"' % LONG, "The body is not valid JSON"),
        (b'"%b\\x41"' % LONG, "The body is not valid JSON"),
        (b'"%b\n"' % LONG, "The body is not valid JSON"),
        (b'"%b' % LONG, "The body is not valid JSON"),
        (b'"%b\\' % LONG, "The body is not valid JSON"),
        (b"[%b" % NUMBERS, "The body is not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_content_is_told(content: bytes, sentence: str) -> None:
    for padding in (0, 1, 1000, PIECE_BYTES - 50):
        with pytest.raises(InvalidRequest) as raised:
            read(ExecuteBody, document(content, b" " * padding))
        assert sentence in raised.value.message
        assert len(raised.value.message) < 300


@pytest.mark.parametrize(
    "place",
    [
        b'"sessionId":"%b"',
        b'"request":{"cmd":"true","workdir":"%b"}',
        b'"request":{"cmd":"true","outputPaths":["/sandbox/%b"]}',
        b'"request":{"cmd":"true","files":{"/sandbox/%b":""}}',
        b'"request":{"cmd":"true","env":{"%b":""}}',
        b'"request":{"cmd":"true","metadata":{"%b":""}}',
        b'"request":{"cmd":"true","%b":""}',
        b'"request":{"cmd":"true","cmd":"%b","cmd":"false"}',
        b'"request":{"cmd":"true"},"options":{"mode":"%b"}',
        b'"request":{"cmd":"true"},"options":{"debug":{"%b":1}}',
        b'"request":{"cmd":"true"},"options":{"networkFilter":{"x":"%b"}}',
        b'"%b":1',
        b"%b",
    ],
)
def test_a_long_string_where_none_belongs(place: bytes) -> None:
    sent = b'{"sessionId":null,' + place % LONG + b"}"
    with pytest.raises(InvalidRequest) as raised:
        read(ExecuteBody, sent)
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 300


def test_nobody_can_write_a_mark() -> None:
    """What looks like one is what it is: no part of another value."""
    forged = [f"0{'a' * 24}{number:07x}" for number in range(3)]
    files = {f"/sandbox/{number}": mark for number, mark in enumerate(forged)} | {"/sandbox/long": "x" * 80_000}
    found = read(ExecuteBody, json.dumps({"request": {"cmd": "true", "files": files}}).encode())
    assert found.request.files == {path: content.encode() for path, content in files.items()}
    marks = {LargeBody(1, 1, 1)._mark for _ in range(100)}
    assert len(marks) == 100


def test_an_upload() -> None:
    content = bytes(range(256)) * 1000
    tree = {"sessionId": "s", "path": "/tmp/a", "content": base64.b64encode(content).decode()}
    assert read(UploadBody, json.dumps(tree).encode()).content == content
    tree["content"] = "=" + tree["content"]
    with pytest.raises(InvalidRequest, match="content is not base64"):
        read(UploadBody, json.dumps(tree).encode())
    # No other type has contents.
    with pytest.raises(InvalidRequest):
        read(DownloadQuery, json.dumps({"sessionId": "s", "path": "/tmp/" + "a" * 5000}).encode())


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 1_000_000,
        b"[]," * 1_000_000,
        b"[1]," * 1_000_000,
        b'{"a":' * 200_000,
        b'"",' * 1_000_000,
        b'{"request":{"env":{' + b",".join(b'"A%d":""' % number for number in range(100_000)) + b"}}}",
        b" " * 20_000_000,
        b'{"request":{"cmd":"true","timeoutMs":' + b"9" * 1_000_000 + b"}}",
        b'{"request":{"cmd":"true","timeoutMs":' + b"0." + b"9" * 1_000_000 + b"}}",
    ],
    ids="arrays lists elements objects strings env spaces digits fraction".split(),  # noqa: SIM905
)
def test_bombs_are_refused_before_they_are_parsed(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isol8.wire.large.parse", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises((Forbidden, InvalidRequest)):
        read(ExecuteBody, bomb)
