"""WebSocket frames: bytes in, events out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode

from tunnelkit.errors import ProtocolError
from tunnelkit.wire.frames import (
    MAX_FRAME,
    MAX_TEXT,
    FrameReader,
    Opcode,
    frame,
    header,
    mask,
)

KEYS = st.one_of(st.none(), st.just(b"\0\0\0\0"), st.binary(min_size=4, max_size=4))


def read(reader: FrameReader, *pieces: bytes) -> list[tuple[int, bytes]]:
    """All events, neighbouring payload joined."""
    events: list[tuple[int, bytes]] = []
    for piece in pieces:
        for opcode, payload in reader.feed(piece):
            data = bytes(payload)
            if opcode == Opcode.BINARY and events and events[-1][0] == Opcode.BINARY:
                events[-1] = (opcode, events[-1][1] + data)
            else:
                events.append((opcode, data))
    return events


@given(st.binary(max_size=300), KEYS, st.sampled_from([Opcode.BINARY, Opcode.TEXT]))
def test_frames_are_those_of_websockets(payload: bytes, key: bytes | None, opcode: Opcode) -> None:
    ours = frame(payload, opcode, key)
    theirs = Frame(TheirOpcode(opcode), payload)
    assert len(ours) == len(theirs.serialize(mask=key is not None))
    if key is None:
        assert ours == theirs.serialize(mask=False)
    else:
        assert mask(ours[-len(payload) :] if payload else b"", key) == payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, MAX_FRAME])
def test_lengths_around_each_form_of_the_header(size: int) -> None:
    reader = FrameReader(masked=False)
    assert read(reader, header(size), bytes(size)) == ([(Opcode.BINARY, bytes(size))] if size else [])
    assert reader.idle


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Opcode.BINARY, Opcode.TEXT, Opcode.PING]), st.binary(min_size=1, max_size=120)
        ),
        max_size=8,
    ),
    KEYS,
    st.lists(st.integers(1, 40), min_size=1),
)
def test_any_cut_gives_the_same_events(messages, key, cuts) -> None:
    stream = b"".join(frame(payload, opcode, key) for opcode, payload in messages)
    whole = read(FrameReader(masked=key is not None), stream)
    pieces, position = [], 0
    while position < len(stream):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(stream[position : position + size])
        position += size
    assert read(FrameReader(masked=key is not None), *pieces) == whole
    assert read(FrameReader(masked=key is not None), *(bytes([b]) for b in stream)) == whole


def test_fragments_with_a_ping_between_them() -> None:
    reader = FrameReader(masked=False)
    stream = b"\x02\x03abc" + b"\x89\x01?" + b"\x00\x02de" + b"\x80\x01f" + frame(b"next", Opcode.TEXT)
    assert read(reader, stream) == [
        (Opcode.BINARY, b"abc"),
        (Opcode.PING, b"?"),
        (Opcode.BINARY, b"def"),
        (Opcode.TEXT, b"next"),
    ]


def test_a_fragmented_text_is_put_together() -> None:
    reader = FrameReader(masked=False)
    assert read(reader, b"\x01\x02he", b"\x00\x02ll", b"\x80\x01o") == [(Opcode.TEXT, b"hello")]


@pytest.mark.parametrize(
    ("masked", "data", "why"),
    [
        (False, b"\xc2\x00", "reserved"),
        (False, b"\x92\x00", "reserved"),
        (False, b"\x83\x00", "opcode"),
        (False, b"\x8b\x00", "control"),
        (False, b"\x09\x00", "control"),
        (False, b"\x89\x7e\x00\x7e", "control"),
        (False, b"\x80\x00", "out of order"),
        (False, b"\x02\x01a\x82\x00", "out of order"),
        (True, b"\x82\x00", "not masked"),
        (False, b"\x82\x80", "masked"),
        (False, header(MAX_FRAME + 1), "bytes"),
        (False, b"\x82\x7f" + b"\xff" * 8, "bytes"),
        (False, header(MAX_TEXT + 1, Opcode.TEXT), "bytes"),
        (False, b"\x01\x7e\x10\x00" + bytes(4096) + b"\x80\x01a", "more than"),
    ],
)
def test_what_the_rfc_forbids_is_refused(masked: bool, data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        read(FrameReader(masked=masked), data)


@given(st.binary(max_size=64), st.booleans())
def test_random_bytes_raise_nothing_else(data: bytes, masked: bool) -> None:
    try:
        read(FrameReader(masked=masked), data)
    except ProtocolError:
        pass


@given(st.binary(min_size=1, max_size=70_000), st.sampled_from([None, b"\0\0\0\0"]))
def test_the_short_way_sees_one_whole_message_and_nothing_else(payload: bytes, key: bytes | None) -> None:
    message = frame(payload, Opcode.BINARY, key)
    reader = FrameReader(masked=key is not None)
    start = reader.whole(memoryview(message), len(message))
    assert start == (len(message) - len(payload) if len(payload) < 65536 else 0)
    assert reader.whole(memoryview(message + b"x"), len(message) + 1) == 0
    assert reader.whole(memoryview(message), len(message) - 1) == 0


def test_the_short_way_declines_in_the_midst_of_things() -> None:
    message = frame(b"abc")
    for before in (b"\x82\x05ab", b"\x02\x01a", b"\x82"):
        reader = FrameReader(masked=False)
        read(reader, before)
        assert reader.whole(memoryview(message), len(message)) == 0
    masked = FrameReader(masked=True)
    assert masked.whole(memoryview(frame(b"abc", key=b"abcd")), 9) == 0
    assert masked.whole(memoryview(frame(b"abc")), 5) == 0


@given(st.binary(max_size=5000), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_nothing(data: bytes, key: bytes) -> None:
    assert mask(mask(data, key), key) == data
