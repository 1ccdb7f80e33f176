"""The frame codec: it gives back what went in, however the bytes were cut, and takes nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.runner.frames import (
    DATA,
    END,
    HEADER_BYTES,
    START,
    Decoder,
    ProtocolError,
    encode,
    encode_content,
    encode_fields,
    pack_fields,
    unpack_fields,
)

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


def by_the_book(stream: bytes, limit: int) -> tuple[list[tuple[int, int, bytes]], bool]:
    """What the module's text says a stream is: its frames, and whether one is too long."""
    frames: list[tuple[int, int, bytes]] = []
    while len(stream) >= HEADER_BYTES:
        length = int.from_bytes(stream[5:9], "big")
        if length > limit:
            return frames, True
        if len(stream) < HEADER_BYTES + length:
            break
        frames.append((stream[0], int.from_bytes(stream[1:5], "big"), stream[9 : 9 + length]))
        stream = stream[9 + length :]
    return frames, False


@given(st.lists(FRAMES, max_size=6), st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), max_size=4), st.data())
def test_a_damaged_stream_is_what_the_book_says(
    frames: list[tuple[int, int, bytes]], damages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    """Bytes lost, changed and put in, anywhere, lengths too: frames up to the first that is too long, then an error."""
    stream = bytearray(b"".join(encode(*frame) for frame in frames))
    for place, instead in damages:
        at = place % (len(stream) + 1)
        stream[at : at + data.draw(st.integers(0, 3))] = instead
    expected, too_long = by_the_book(bytes(stream), 300)
    decoder = Decoder(300)
    received = []
    refused = False
    while stream and not refused:
        size = data.draw(st.integers(1, len(stream)))
        try:
            received += decoder.feed(bytes(stream[:size]))
        except ProtocolError:
            refused = True
        del stream[:size]
    assert refused == too_long
    # What came in the same piece as the one that is too long is lost with it.
    assert received == expected[: len(received)]
    if not too_long:
        assert received == expected


@given(st.lists(st.tuples(KEYS, st.binary(max_size=200)), max_size=10), st.integers(0, 2**32 - 1))
def test_fields_in_a_frame_of_their_own(pairs: list[tuple[str, bytes]], channel: int) -> None:
    ((kind, number, payload),) = Decoder(10_000).feed(encode_fields(START, channel, pairs))
    assert (kind, number, unpack_fields(payload)) == (START, channel, pairs)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=50)), max_size=5), st.integers(0), st.binary(max_size=3))
def test_damaged_fields_are_fields_or_refused(pairs: list[tuple[str, bytes]], place: int, instead: bytes) -> None:
    payload = bytearray(pack_fields(pairs))
    at = place % (len(payload) + 1)
    payload[at : at + len(instead)] = instead
    try:
        found = unpack_fields(bytes(payload))
    except ProtocolError:
        return
    assert pack_fields(found) == payload


@given(st.lists(st.integers(1, 5000), max_size=20))
def test_no_more_is_kept_than_one_frame(sizes: list[int]) -> None:
    """However it comes, what waits in the decoder is less than one frame of the longest kind."""
    decoder = Decoder(1000)
    stream = encode(DATA, 1, b"x" * 1000) * (sum(sizes) // 1009 + 1)
    for size in sizes:
        decoder.feed(stream[:size])
        stream = stream[size:]
        assert len(decoder._buffer) < 1000 + HEADER_BYTES
