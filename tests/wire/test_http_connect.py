"""The client's side of HTTP CONNECT."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import InvalidError, OutboundProxyError
from tunnelkit.wire.http_connect import MAX_HEAD, HttpConnectClient


def answered(data: bytes) -> HttpConnectClient:
    client = HttpConnectClient("relay.example", 443)
    client.receive(data)
    return client


def test_the_request_names_the_relay_twice() -> None:
    client = HttpConnectClient("relay.example", 443)
    assert client.data_to_send() == (b"CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n\r\n")
    assert client.data_to_send() == b""


def test_an_ipv6_relay_stands_in_brackets() -> None:
    assert HttpConnectClient("::1", 80).data_to_send().startswith(b"CONNECT [::1]:80 HTTP/1.1\r\n")


def test_credentials_are_sent_as_basic() -> None:
    sent = HttpConnectClient("h", 80, "jörg", "a:b").data_to_send()
    assert b"\r\nProxy-Authorization: Basic " + b64encode("jörg:a:b".encode()) + b"\r\n" in sent


@given(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 204\r\nVia: x\r\n\r\n"]),
    st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]),
    st.binary(max_size=40),
    st.data(),
)
def test_any_pieces_give_the_same_and_the_rest_is_kept(
    head: bytes, interim: bytes, rest: bytes, data: st.DataObject
) -> None:
    left = interim + head + rest
    client = HttpConnectClient("h", 80)
    while left:
        size = data.draw(st.integers(1, len(left)))
        client.receive(left[:size])
        left = left[size:]
    assert client.done
    assert client.rest == rest


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407: it wants other credentials"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503 Service Unavailable[.]"),
        (b"HTTP/1.1 302 \x1b[31mFound\r\n\r\n", "answered 302 .\\[31mFound[.]"),
        (b"HTTP/1.1 500\r\n\r\n", "answered 500[.]"),
        (b"HTTP/1.1 500 " + b"x" * 5000 + b"\r\n\r\n", "answered 500 x{60}[.]"),
        (b"HTTP/2 200\r\n\r\n", "does not answer CONNECT in HTTP/1"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "does not answer CONNECT in HTTP/1"),
        (b"HTTP/1.1 200 OK\n\r\n\r\n", "does not answer CONNECT in HTTP/1"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_HEAD, "head of over 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_HEAD + b"\r\n\r\n", "head of over 8192 bytes"),
    ],
)
def test_a_refusal_and_nonsense_are_named(answer: bytes, why: str) -> None:
    with pytest.raises(OutboundProxyError, match=why) as caught:
        answered(answer)
    assert "\x1b" not in str(caught.value)


def test_the_end_of_an_unfinished_answer_is_named() -> None:
    client = answered(b"HTTP/1.1 200 OK\r\n")
    assert not client.done
    with pytest.raises(OutboundProxyError, match="closed the connection"):
        client.receive(b"")


def test_a_host_cannot_add_to_the_request() -> None:
    for host in ["h\r\nX: y", "h ", "", "bücher.example"]:
        with pytest.raises(InvalidError):
            HttpConnectClient(host, 80)
