"""The frame codec: it gives back what went in, however the bytes were cut, and takes nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.runner.frames import DATA, END, Decoder, ProtocolError, encode, encode_content, pack_fields, unpack_fields

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
FRAMES = st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=300))


@given(st.lists(FRAMES, max_size=8), st.data())
def test_frames_survive_any_cutting(frames: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder(1000)
    received = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == frames


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_garbage_never_yields_more_than_the_limit_or_another_error(pieces: list[bytes]) -> None:
    decoder = Decoder(50)
    try:
        frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    except ProtocolError:
        return
    assert all(len(payload) <= 50 for _, _, payload in frames)


def test_a_frame_over_the_limit_is_refused_before_its_payload_comes() -> None:
    header = encode(DATA, 1, b"")[:5] + (1001).to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="1001"):
        Decoder(1000).feed(header)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=200)), max_size=10))
def test_fields_survive(pairs: list[tuple[str, bytes]]) -> None:
    assert unpack_fields(pack_fields(pairs)) == pairs


@given(st.binary(max_size=200))
def test_any_payload_is_fields_or_refused(payload: bytes) -> None:
    try:
        pairs = unpack_fields(payload)
    except ProtocolError:
        return
    assert pack_fields(pairs) == payload


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1])
def test_content_is_cut_and_ended(size: int) -> None:
    decoder = Decoder(1024 * 1024)
    frames = [frame for part in encode_content(7, b"x" * size) for frame in decoder.feed(part)]
    assert frames[-1] == (END, 7, b"")
    assert b"".join(payload for _, _, payload in frames) == b"x" * size
    assert all(kind == DATA and payload for kind, _, payload in frames[:-1])
