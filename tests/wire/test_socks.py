"""The SOCKS5 client: RFC 1928, RFC 1929."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import InvalidError, OutboundProxyError
from tunnelkit.wire.socks import REPLIES, Socks5Client

BOUND = b"\x01\x7f\x00\x00\x01\x1f\x90"  # 127.0.0.1:8080


def talk(client: Socks5Client, *answers: bytes) -> list[bytes]:
    """What the client sends, first of all and after each answer."""
    sent = [client.data_to_send()]
    for answer in answers:
        client.receive(answer)
        sent.append(client.data_to_send())
    return sent


def test_a_name_is_left_to_the_proxy_to_resolve() -> None:
    client = Socks5Client("relay.example", 443)
    greeting, request, nothing = talk(client, b"\x05\x00", b"\x05\x00\x00" + BOUND)
    assert greeting == b"\x05\x01\x00"
    assert request == b"\x05\x01\x00\x03\x0drelay.example\x01\xbb"
    assert nothing == b""
    assert client.done


def test_numeric_addresses_are_sent_as_addresses() -> None:
    assert talk(Socks5Client("192.0.2.1", 80), b"\x05\x00")[1] == b"\x05\x01\x00\x01\xc0\0\2\1\0P"
    request = talk(Socks5Client("2001:db8::1", 80), b"\x05\x00")[1]
    assert request == b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\0P"


def test_user_name_and_password_are_sent_when_asked_for() -> None:
    client = Socks5Client("h", 80, "user", "pass")
    greeting, login, request = talk(client, b"\x05\x02", b"\x01\x00")
    assert greeting == b"\x05\x02\x00\x02"
    assert login == b"\x01\x04user\x04pass"
    assert request == b"\x05\x01\x00\x03\x01h\0P"


def test_user_name_and_password_are_kept_back_when_not_asked_for() -> None:
    sent = talk(Socks5Client("h", 80, "user", "pass"), b"\x05\x00", b"\x05\x00\x00" + BOUND)
    assert b"pass" not in b"".join(sent)


@given(
    st.binary(max_size=40),
    st.sampled_from([BOUND, b"\x04" + bytes(18), b"\x03\x03abc\0P", b"\x03\x00\0P"]),
    st.booleans(),
    st.data(),
)
def test_any_pieces_give_the_same_and_the_rest_is_kept(
    rest: bytes, bound: bytes, login: bool, data: st.DataObject
) -> None:
    answers = b"\x05\x02\x01\x00" if login else b"\x05\x00"
    answers += b"\x05\x00\x00" + bound + rest
    client = Socks5Client("h", 80, "u" if login else None)
    sent = client.data_to_send()
    while answers:
        size = data.draw(st.integers(1, len(answers)))
        client.receive(answers[:size])
        sent += client.data_to_send()
        answers = answers[size:]
    assert client.done
    assert client.rest == rest
    assert sent.endswith(b"\x05\x01\x00\x03\x01h\0P")


@pytest.mark.parametrize("code", [*range(1, 9), 9, 255])
def test_a_refusal_is_told_by_its_code_from_two_bytes_alone(code: int) -> None:
    client = Socks5Client("h", 80)
    talk(client, b"\x05\x00")
    with pytest.raises(OutboundProxyError) as caught:
        client.receive(bytes([5, code]))
    assert f"answered {code}: {REPLIES.get(code, 'unassigned')}" in caught.value.what
    assert not client.done


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"HTTP/1.1 400"], "does not speak SOCKS5"),
        ([b"\x04\x5a"], "does not speak SOCKS5"),
        ([b"\x05\xff"], "wants a user name"),
        ([b"\x05\x02"], "method 2, which was not offered"),
        ([b"\x05\x01"], "method 1, which was not offered"),
        ([b"\x05\x00", b"\x04\x00"], "does not speak SOCKS5"),
        ([b"\x05\x00", b"\x05\x00\x00\x02"], "address type 2"),
        ([b"\x05\x00", b""], "closed the connection instead of connecting"),
        ([b""], "closed the connection in the handshake"),
    ],
)
def test_nonsense_is_named(answers: list[bytes], why: str) -> None:
    with pytest.raises(OutboundProxyError, match=why):
        talk(Socks5Client("h", 80), *answers)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"\x05\xff"], "another authentication"),
        ([b"\x05\x02", b"\x01\x01"], "does not accept the user name and password"),
    ],
)
def test_a_refused_login_is_named_without_the_password(answers: list[bytes], why: str) -> None:
    with pytest.raises(OutboundProxyError, match=why) as caught:
        talk(Socks5Client("h", 80, "user", "hunter2"), *answers)
    assert "hunter2" not in str(caught.value)


def test_what_does_not_fit_into_the_protocol_is_refused_before_a_byte_is_sent() -> None:
    for arguments in [("x" * 256, 80), ("", 80), ("bücher.example", 80), ("h", 0)]:
        with pytest.raises(InvalidError):
            Socks5Client(*arguments)
    for login in [("u" * 256, "p"), ("u", "p" * 256)]:
        with pytest.raises(InvalidError):
            Socks5Client("h", 80, *login)


@given(st.lists(st.binary(max_size=20)))
def test_random_bytes_end_in_a_named_error_or_in_nothing(pieces: list[bytes]) -> None:
    client = Socks5Client("h", 80, "u", "p")
    why = "SOCKS5"
    try:
        talk(client, *pieces)
    except OutboundProxyError as error:
        why = error.what
    assert "SOCKS5" in why
