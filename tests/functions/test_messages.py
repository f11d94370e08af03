from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.functions.messages import (
    HEADER,
    MAX_PAYLOAD,
    Assembler,
    Kind,
    pack,
    pack_spawn,
    unpack_spawn,
)

messages = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=8
)


@given(messages, st.integers(1, 64))
def test_messages_come_out_as_they_went_in_whatever_the_pieces(
    sent: list[tuple[Kind, int, bytes]], size: int
) -> None:
    data = b"".join(pack(*message) for message in sent)
    assembler = Assembler()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    assert [message for piece in pieces for message in assembler.feed(piece)] == sent


@pytest.mark.parametrize("header", [HEADER.pack(1, 0, MAX_PAYLOAD + 1), HEADER.pack(99, 0, 0)])
def test_what_is_no_message_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no words of its own for a kind that is none
        list(Assembler().feed(header))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_a_call_of_another_function_comes_out_as_it_went_in(key: str, arguments: bytes) -> None:
    assert unpack_spawn(pack_spawn(key, arguments)) == (key, arguments)


@given(st.binary())
def test_noise_is_at_most_a_function_that_nobody_knows(noise: bytes) -> None:
    key, arguments = unpack_spawn(noise)
    assert isinstance(key, str)
    assert len(arguments) <= len(noise)
