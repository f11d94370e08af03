"""SOCKS as a proxy sees it: RFC 1928, RFC 1929, and the memos on SOCKS 4 and 4a."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import ProtocolError, ProxyAuthError, TunnelkitError
from tunnelkit.wire import socks_server as module
from tunnelkit.wire.socks import Socks5Client
from tunnelkit.wire.socks_server import Login, Request, SocksServer, datagram_header, parse_datagram

CONNECT = b"\x05\x01\x00\x03\x07a.test.\x01\xbb"
CONNECT_4 = b"\x04\x01\x01\xbb\xc0\x00\x02\x01me\0"
CONNECT_4A = b"\x04\x01\x01\xbb\x00\x00\x00\x01me\0a.test\0"


def open_server() -> SocksServer:
    return SocksServer(login_required=False)


def guarded() -> SocksServer:
    return SocksServer(login_required=True)


def refused(server: SocksServer, data: bytes, error: type[TunnelkitError] = ProtocolError) -> bytes:
    """What the client is told when ``data`` is no good."""
    with pytest.raises(error):
        server.receive(data)
    return server.data_to_send()


# --- SOCKS5 -------------------------------------------------------------------------------------


def test_a_socks5_connect() -> None:
    server = open_server()
    assert server.receive(b"\x05\x01\x00") is None
    assert server.data_to_send() == b"\x05\x00"
    assert server.receive(CONNECT) == Request("connect", "a.test.", 443, 5)
    assert server.data_to_send() == b""
    server.succeed("192.0.2.7", 4711)
    assert server.data_to_send() == b"\x05\x00\x00\x01\xc0\x00\x02\x07\x12\x67"
    assert server.data_to_send() == b""


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_numeric_addresses_arrive_as_text(host: str) -> None:
    packed = ipaddress.ip_address(host).packed
    kind = b"\x01" if len(packed) == 4 else b"\x04"
    server = open_server()
    request = server.receive(b"\x05\x01\x00" + b"\x05\x01\x00" + kind + packed + b"\0P")
    assert request == Request("connect", host, 80, 5)
    server.succeed(host, 80)
    assert server.data_to_send() == b"\x05\x00" + b"\x05\x00\x00" + kind + packed + b"\0P"


def test_udp_associate() -> None:
    server = open_server()
    request = server.receive(b"\x05\x01\x00" + b"\x05\x03\x00\x01" + bytes(6))
    assert request == Request("udp", "0.0.0.0", 0, 5)


def test_a_name_may_be_utf_8() -> None:
    request = open_server().receive(b"\x05\x01\x00\x05\x01\x00\x03\x04\xc3\xa4.a\0P")
    assert request == Request("connect", "ä.a", 80, 5)


def test_what_comes_behind_the_request_is_kept() -> None:
    server = open_server()
    assert server.receive(b"\x05\x01\x00" + CONNECT + b"early") is not None
    assert server.rest == b"early"
    assert server.receive(b" bird") is None
    assert server.rest == b"early bird"


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("proxy_unavailable", 1),
        ("anything else", 1),
        ("destination_denied", 2),
        ("user_limit", 2),
        ("destination_unreachable", 3),
        ("destination_unresolved", 4),
        ("destination_refused", 5),
        ("destination_timeout", 6),
        ("family_not_pinned", 8),
    ],
)
def test_a_refusal_has_the_reply_of_its_cause(code: str, reply: int) -> None:
    server = open_server()
    server.receive(b"\x05\x01\x00" + CONNECT)
    server.data_to_send()
    server.fail(code)
    assert server.data_to_send() == bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])


def test_the_replies_are_for_codes_that_exist() -> None:
    kinds = {TunnelkitError}
    for _ in range(5):
        kinds |= {child for kind in kinds for child in kind.__subclasses__()}
    known = {kind.code for kind in kinds} | {"command", "address_type"}
    assert module.REPLY_FOR.keys() <= known


@pytest.mark.parametrize("command", [0, 2, 4, 255])
def test_bind_and_unknown_commands_are_told_so(command: int) -> None:
    answer = refused(open_server(), b"\x05\x01\x00" + bytes([5, command]) + CONNECT[2:])
    assert answer == b"\x05\x00" + bytes([5, 7, 0, 1, 0, 0, 0, 0, 0, 0])


def test_an_unknown_address_type_is_told_so() -> None:
    answer = refused(open_server(), b"\x05\x01\x00" + b"\x05\x01\x00\x02abcdef")
    assert answer == b"\x05\x00" + bytes([5, 8, 0, 1, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("name", [b"\x00", b"\x01\xff", b"\x02\xc3("])
def test_a_name_that_is_no_text_is_refused(name: bytes) -> None:
    answer = refused(open_server(), b"\x05\x01\x00" + b"\x05\x01\x00\x03" + name + b"\0P")
    assert answer[:4] == b"\x05\x00\x05\x04"


def test_a_request_of_another_version_is_refused() -> None:
    refused(open_server(), b"\x05\x01\x00" + b"\x04" + CONNECT[1:])


# --- SOCKS5 with passwords ----------------------------------------------------------------------


def login(username: bytes, password: bytes) -> bytes:
    return bytes([1, len(username)]) + username + bytes([len(password)]) + password


def test_a_login_that_is_accepted() -> None:
    server = guarded()
    assert server.receive(b"\x05\x02\x00\x02") is None
    assert server.data_to_send() == b"\x05\x02"
    assert server.receive(login(b"user", b"pass")) == Login("user", "pass")
    assert server.data_to_send() == b""
    assert server.accept_login() is None
    assert server.data_to_send() == b"\x01\x00"
    assert server.receive(CONNECT) == Request("connect", "a.test.", 443, 5)


def test_a_login_that_is_refused() -> None:
    server = guarded()
    server.receive(b"\x05\x01\x02" + login(b"user", b"pass"))
    server.refuse_login()
    assert server.data_to_send() == b"\x05\x02\x01\x01"


def test_a_client_that_does_not_wait_for_answers() -> None:
    server = guarded()
    event = server.receive(b"\x05\x01\x02" + login(b"u", b"p") + CONNECT + b"early")
    assert event == Login("u", "p")
    assert server.data_to_send() == b"\x05\x02"  # and nothing that only comes with the verdict
    assert server.accept_login() == Request("connect", "a.test.", 443, 5)
    assert server.data_to_send() == b"\x01\x00"
    assert server.rest == b"early"


def test_a_client_that_goes_on_before_the_verdict_is_limited() -> None:
    server = guarded()
    server.receive(b"\x05\x01\x02" + login(b"u", b"p"))
    assert server.receive(bytes(module.MAX_PENDING)) is None
    with pytest.raises(ProtocolError, match="too much"):
        server.receive(b"x")


@pytest.mark.parametrize("methods", [b"\x01\x00", b"\x02\x00\x01", b"\x01\x80"])
def test_who_offers_no_password_where_one_is_needed_is_refused(methods: bytes) -> None:
    assert refused(guarded(), b"\x05" + methods, ProxyAuthError) == b"\x05\xff"


def test_authentication_that_is_skipped_is_refused() -> None:
    assert refused(guarded(), b"\x05\x02\x00\x02" + CONNECT, ProxyAuthError) == b"\x05\x02\x01\x01"


@pytest.mark.parametrize(("username", "password"), [(b"", b"p"), (b"u", b""), (b"", b"")])
def test_an_empty_login_is_refused(username: bytes, password: bytes) -> None:
    data = b"\x05\x01\x02" + login(username, password)
    assert refused(guarded(), data, ProxyAuthError) == b"\x05\x02\x01\x01"


@pytest.mark.parametrize("login_required", [False, True])
def test_no_methods_at_all_are_refused(login_required: bool) -> None:
    server = SocksServer(login_required=login_required)
    assert refused(server, b"\x05\x00") == b"\x05\xff"


def test_an_unknown_method_alone_is_refused() -> None:
    assert refused(open_server(), b"\x05\x01\x01") == b"\x05\xff"


def test_a_password_that_nobody_asks_for_is_taken_where_the_client_knows_nothing_else() -> None:
    server = open_server()
    assert server.receive(b"\x05\x01\x02" + login(b"u", b"") + CONNECT) is not None
    assert server.data_to_send() == b"\x05\x02\x01\x00"


def test_bytes_that_are_no_text_survive_in_a_login() -> None:
    event = guarded().receive(b"\x05\x01\x02" + login(b"\xff", b"\xfe"))
    assert isinstance(event, Login)
    assert event.password.encode(errors="surrogateescape") == b"\xfe"


def test_a_password_does_not_show() -> None:
    assert "secret" not in repr(Login("user", "secret"))


# --- SOCKS4 and 4a ------------------------------------------------------------------------------


def test_a_socks4_connect() -> None:
    server = open_server()
    assert server.receive(CONNECT_4 + b"early") == Request("connect", "192.0.2.1", 443, 4, "me")
    assert server.rest == b"early"
    server.succeed("192.0.2.7", 4711)
    assert server.data_to_send() == b"\x00\x5a\x12\x67\xc0\x00\x02\x07"


def test_a_socks4a_connect() -> None:
    server = open_server()
    assert server.receive(CONNECT_4A + b"early") == Request("connect", "a.test", 443, 4, "me")
    assert server.rest == b"early"
    server.succeed("2001:db8::1", 4711)  # which SOCKS4 cannot say
    assert server.data_to_send() == b"\x00\x5a\x12\x67\x00\x00\x00\x00"


def test_zeros_are_an_address_and_no_sign_of_a_name() -> None:
    request = open_server().receive(b"\x04\x01\0P\0\0\0\0\0rest")
    assert request == Request("connect", "0.0.0.0", 80, 4)


def test_a_socks4_refusal() -> None:
    server = open_server()
    server.receive(CONNECT_4)
    server.fail("destination_denied")
    assert server.data_to_send() == b"\x00\x5b" + bytes(6)


def test_socks4_bind_is_refused() -> None:
    assert refused(open_server(), b"\x04\x02" + CONNECT_4[2:]) == b"\x00\x5b" + bytes(6)


@pytest.mark.parametrize("request_", [CONNECT_4, CONNECT_4A])
def test_socks4_proves_nothing_where_a_login_is_needed(request_: bytes) -> None:
    assert refused(guarded(), request_, ProxyAuthError) == b"\x00\x5b" + bytes(6)


@pytest.mark.parametrize(("before", "limit"), [(CONNECT_4[:8], 255), (CONNECT_4A[:11], 255)])
def test_a_text_without_an_end_is_refused(before: bytes, limit: int) -> None:
    server = open_server()
    assert server.receive(before + b"u" * limit) is None
    assert refused(server, b"u") == b"\x00\x5b" + bytes(6)


def test_a_socks4a_name_that_is_empty_is_refused() -> None:
    assert refused(open_server(), b"\x04\x01\0P\0\0\0\1me\0\0") == b"\x00\x5b" + bytes(6)


@pytest.mark.parametrize("first", [0, 1, 6, ord("G"), 0x16])
def test_what_is_no_socks_is_told(first: int) -> None:
    assert refused(open_server(), bytes([first]) + b"ET / HTTP/1.1\r\n") == b""


# --- in any pieces ------------------------------------------------------------------------------

HANDSHAKES = [
    (b"\x05\x01\x00" + CONNECT, False),
    (b"\x05\x02\x00\x02" + login(b"user", b"pass") + CONNECT, True),
    (b"\x05\x01\x00" + b"\x05\x03\x00\x04" + bytes(18), False),
    (CONNECT_4, False),
    (CONNECT_4A, False),
]


@given(st.sampled_from(HANDSHAKES), st.binary(max_size=9), st.lists(st.integers(1, 5)))
def test_any_pieces_give_the_same_and_the_rest_is_kept(
    handshake: tuple[bytes, bool], rest: bytes, sizes: list[int]
) -> None:
    data, login_required = handshake
    whole = SocksServer(login_required=login_required)
    expected = events(whole, [data + rest])
    pieces, position = [], 0
    for size in sizes:
        pieces.append((data + rest)[position : position + size])
        position += size
    pieces.append((data + rest)[position:])
    server = SocksServer(login_required=login_required)
    assert events(server, pieces) == expected
    assert server.data_to_send() == whole.data_to_send()
    assert server.rest == rest


@pytest.mark.parametrize(("data", "login_required"), HANDSHAKES)
def test_a_byte_at_a_time(data: bytes, login_required: bool) -> None:
    server = SocksServer(login_required=login_required)
    *first, last = [bytes([byte]) for byte in data]
    assert not any(isinstance(event, Request) for event in events(server, first))
    assert isinstance(events(server, [last])[-1], Request)


def events(server: SocksServer, pieces: list[bytes]) -> list[Login | Request]:
    found: list[Login | Request] = []
    for piece in filter(None, pieces):
        event = server.receive(piece)
        if isinstance(event, Login):
            found.append(event)
            event = server.accept_login()
        if event is not None:
            found.append(event)
    return found


@given(st.lists(st.binary(min_size=1, max_size=300)), st.booleans())
def test_noise_is_refused_and_never_grows(pieces: list[bytes], login_required: bool) -> None:
    server = SocksServer(login_required=login_required)
    try:
        events(server, pieces)
    except (ProtocolError, ProxyAuthError):
        return
    assert len(server._incoming) <= module.MAX_PENDING


@given(
    st.binary(max_size=600), st.sampled_from([b"\x05", b"\x05\x01\x00\x05", b"\x05\x01\x02\x01", b"\x04\x01"])
)
def test_noise_behind_a_good_beginning_is_bounded(noise: bytes, beginning: bytes) -> None:
    server = SocksServer(login_required=beginning[2:3] == b"\x02")
    try:
        events(server, [beginning, noise])
    except (ProtocolError, ProxyAuthError):
        return
    assert len(server._incoming) < 600


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex("[a-z]{1,60}", fullmatch=True)),
    st.integers(1, 65535),
    st.booleans(),
)
def test_our_client_and_our_server_understand_each_other(host: str, port: int, login: bool) -> None:
    client = Socks5Client(host, port, *(("user", "pass") if login else ()))
    server = SocksServer(login_required=login)
    found: list[Login | Request] = []
    while not found or not isinstance(found[-1], Request):
        found += events(server, [client.data_to_send()])
        if isinstance(found[-1] if found else None, Request):
            server.succeed(host if host[0].isdigit() else "", port)
        client.receive(server.data_to_send())
    assert client.done
    assert found[-1] == Request("connect", host, port, 5)


# --- datagrams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_datagram_goes_in_and_comes_out(host: str) -> None:
    data = datagram_header(host, 53) + b"payload"
    datagram = parse_datagram(data)
    assert (datagram.host, datagram.port, datagram.fragment) == (host, 53, 0)
    assert bytes(datagram.payload) == b"payload"


def test_a_datagram_to_a_name() -> None:
    datagram = parse_datagram(b"\0\0\0\x03\x06a.test\x00\x35")
    assert (datagram.host, datagram.port, bytes(datagram.payload)) == ("a.test", 53, b"")


def test_a_fragment_is_known_by_its_number() -> None:
    assert parse_datagram(b"\0\0\x81\x01\x7f\0\0\1\0\x35x").fragment == 0x81


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x01\x7f\0\0\1\0",
        b"\0\0\0\x02\x7f\0\0\1\0\x35",
        b"\0\0\0\x03\x00\0\x35x",
        b"\0\0\0\x03\x09short",
        b"\0\0\0\x03\x01\xff\0\x35",
        b"\0\0\0\x04" + bytes(17),
    ],
)
def test_what_is_no_datagram_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_datagram(data)


@given(st.binary(max_size=300))
def test_noise_is_a_datagram_or_refused(data: bytes) -> None:
    try:
        datagram = parse_datagram(data)
    except ProtocolError:
        return
    assert data.endswith(bytes(datagram.payload))
    assert 0 <= datagram.port <= 65535
