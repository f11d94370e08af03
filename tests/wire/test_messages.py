"""Messages as JSON, and what becomes of those that are none."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import ProtocolError
from tunnelkit.wire import messages
from tunnelkit.wire.messages import (
    ChannelMessage,
    ControlToAgent,
    ControlToRelay,
    decode_channel,
    decode_control_to_agent,
    decode_control_to_relay,
    encode,
)

DECODERS = [
    (decode_control_to_relay, ControlToRelay),
    (decode_control_to_agent, ControlToAgent),
    (decode_channel, ChannelMessage),
]


@pytest.mark.parametrize(("decode", "union"), DECODERS)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(decode, union, data) -> None:
    kind = data.draw(st.sampled_from(get_args(union)))
    fields = {
        field.name: data.draw(st.just("tcp") if field.name == "kind" else st.from_type(field.type))
        for field in msgspec.structs.fields(kind)
        if field.type is not float
    }
    message = kind(**fields)
    assert decode(encode(message)) == message


def test_a_message_says_its_name_and_leaves_out_defaults() -> None:
    assert encode(messages.Need(3)) == b'{"type":"need","n":3}'
    assert encode(messages.Goodbye()) == b'{"type":"goodbye"}'


@pytest.mark.parametrize(("decode", "union"), DECODERS)
def test_an_unknown_message_is_ignored(decode, union) -> None:
    assert decode(b'{"type":"frobnicate","x":[1]}') is None


def test_an_unknown_field_is_ignored() -> None:
    assert decode_channel(b'{"type":"end","bytes":1,"why":"later"}') == messages.End(1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"type":1}',
        b'{"type":"end"}',
        b'{"type":"end","bytes":"1"}',
        b'{"type":"end","bytes":1.5}',
        b'{"type":"end","bytes":1}{"type":"end","bytes":1}',
        b'{"type":"open","stream":1,"tunnel":null,"visitor":""}',
    ],
)
def test_a_malformed_message_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_channel(text)


def test_a_message_of_the_other_direction_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="misplaced need"):
        decode_control_to_relay(encode(messages.Need(1)))
    with pytest.raises(ProtocolError, match="misplaced hello"):
        decode_control_to_agent(encode(messages.Hello("a")))


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(text: bytes) -> None:
    for decode, _ in DECODERS:
        try:
            decode(text)
        except ProtocolError:
            pass
