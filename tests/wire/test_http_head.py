from __future__ import annotations

import pickle

import pytest

from tests.wire.http_heads import Oracle, answer, head
from tunnelkit.wire.http_head import (
    MAX_FIELDS,
    MAX_HEAD,
    Framing,
    HeadError,
    RequestHead,
    build_request,
    build_response,
    find_head_end,
    forwarded_block,
    parse_request,
    parse_response,
)

FORWARDED = forwarded_block("192.0.2.1", 4711, "http", b"app.test")


def request(*lines: str, **options: str | None) -> RequestHead:
    return parse_request(head(*lines, **options))  # type: ignore[arg-type]


def forwarded(*lines: str, **options: str | None) -> bytes:
    return build_request(request(*lines, **options), host=b"app.test", forwarded=FORWARDED)


# --- finding the end ----------------------------------------------------------------------------


def test_end_is_just_past_the_first_blank_line() -> None:
    first = head()
    assert find_head_end(first + head()) == len(first)
    assert find_head_end(bytearray(first + head()), len(first)) == 2 * len(first)


def test_end_of_the_message_before_is_no_part_of_this_head() -> None:
    assert find_head_end(b"body\r\n\r" + b"\nGET / HTTP/1.1\r\n", len(b"body\r\n\r")) == -1


def test_end_is_found_by_whatever_pieces_arrive() -> None:
    whole = head("Accept: */*")
    for searched in range(len(whole)):
        assert find_head_end(whole[:searched]) == -1
        assert find_head_end(whole, 0, searched) == len(whole)
        assert find_head_end(whole[: searched + 1], 0, searched) in (-1, len(whole))


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\n", b"\x16\x03\x01", b"GET /\rx", b"GET \0"])
def test_what_cannot_become_a_head_is_not_waited_for(garbage: bytes) -> None:
    with pytest.raises(HeadError):
        find_head_end(garbage)


@pytest.mark.parametrize(("seen", "more"), [(b"GET / HTTP/1.1", b"\n"), (b"GET /\r", b"x")])
def test_bare_line_end_is_found_across_pieces(seen: bytes, more: bytes) -> None:
    assert find_head_end(seen) == -1
    with pytest.raises(HeadError):
        find_head_end(seen + more, 0, len(seen))


def test_head_over_the_limit_is_refused_whether_whole_or_not() -> None:
    fits = b"GET /" + b"x" * (MAX_HEAD - 9) + b"\r\n\r\n"
    assert find_head_end(fits) == MAX_HEAD
    for too_long in (fits[:-4] + b"x" * 4, b"x" + fits):
        with pytest.raises(HeadError) as caught:
            find_head_end(too_long)
        assert caught.value.status == 431


# --- requests ---


def test_plain_request_is_forwarded_line_for_line() -> None:
    lines = ("accept: */*", "X-Odd:  two  spaces ", "COOKIE: a=\x80", "Empty:", "Trailer: X-Sum")
    assert forwarded(*lines, start="GET /a?b=//c&d=%00 HTTP/1.1", host="App.Test") == (
        b"GET /a?b=//c&d=%00 HTTP/1.1\r\nHost: app.test\r\n"
        + "".join(f"{line}\r\n" for line in lines).encode("latin-1")
        + FORWARDED
        + b"\r\n"
    )


def test_most_fields_allowed_are_accepted() -> None:
    assert len(request(*["A: b"] * (MAX_FIELDS - 1)).lines) == MAX_FIELDS - 1


@pytest.mark.parametrize(
    ("value", "host", "name"),
    [
        ("app.test", b"app.test", "app.test"),
        (" \tApp.TEST:8080 ", b"app.test:8080", "app.test"),
        ("app.test.:80", b"app.test.:80", "app.test"),
        ("my_app-1", b"my_app-1", "my_app-1"),
        ("127.0.0.1:65535", b"127.0.0.1:65535", "127.0.0.1"),
        ("[2001:DB8::1]:80", b"[2001:db8::1]:80", "[2001:db8::1]"),
        ("[::1]", b"[::1]", "[::1]"),
    ],
)
def test_host_is_folded_and_taken_apart(value: str, host: bytes, name: str) -> None:
    read = request(host=value)
    assert (read.host, read.host_name) == (host, name)


def test_http_1_0_may_lack_a_host() -> None:
    read = request(start="GET / HTTP/1.0", host=None)
    assert (read.version, read.host, read.host_name) == (0, b"", "")


@pytest.mark.parametrize(
    ("start", "target"),
    [
        ("GET http://APP.test HTTP/1.1", b"/"),
        ("GET http://app.test/a?b HTTP/1.1", b"/a?b"),
        ("GET HTTPS://app.test?b HTTP/1.1", b"/?b"),
        ("GET http://app.test//other.test/ HTTP/1.1", b"//other.test/"),
        ("OPTIONS http://app.test HTTP/1.1", b"*"),
        ("OPTIONS * HTTP/1.1", b"*"),
        ("REPORT / HTTP/1.1", b"/"),
        ('GET /{|}^`"<> HTTP/1.1', b'/{|}^`"<>'),
    ],
)
def test_target_becomes_origin_form(start: str, target: bytes) -> None:
    assert request(start=start).target == target


@pytest.mark.parametrize(
    ("lines", "framing", "length"),
    [
        ((), Framing.NONE, 0),
        (("Content-Length: 0",), Framing.NONE, 0),
        (("Content-Length:\t 5 ",), Framing.LENGTH, 5),
        (("CONTENT-LENGTH: 9223372036854775807",), Framing.LENGTH, 2**63 - 1),
        (("Transfer-Encoding: Chunked ",), Framing.CHUNKED, 0),
    ],
)
def test_framing(lines: tuple[str, ...], framing: Framing, length: int) -> None:
    read = request(*lines)
    assert (read.body, read.length) == (framing, length)


def test_framing_is_forwarded() -> None:
    assert Oracle(forwarded("Content-Length: 5")).all(b"content-length") == [b"5"]
    assert Oracle(forwarded("Content-Length: 0")).all(b"content-length") == [b"0"]
    assert Oracle(forwarded("transfer-encoding: CHUNKED")).all(b"transfer-encoding") == [b"chunked"]


@pytest.mark.parametrize(
    ("start", "lines", "kept"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: keep-alive",), True),
        ("GET / HTTP/1.1", ("Connection: CLOSE",), False),
        ("GET / HTTP/1.1", ("Connection: keep-alive, close",), False),
        ("GET / HTTP/1.1", ("Connection: keep-alive", "Connection: close"), False),
        ("GET / HTTP/1.1", ("Connection:",), True),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), True),
        ("GET / HTTP/1.0", ("Connection: x,, Keep-Alive",), True),
        ("GET / HTTP/1.0", ("Connection: close",), False),
    ],
)
def test_keep_alive(start: str, lines: tuple[str, ...], kept: bool) -> None:
    assert request(*lines, start=start).keep_alive is kept


@pytest.mark.parametrize(
    "line",
    [
        "Forwarded: for=10.0.0.1",
        "X-Forwarded-For: 10.0.0.1",
        "x-forwarded-proto: https",
        "X-FORWARDED-HOST: bank.test",
        "X-Forwarded-User: root",
        "X_Forwarded_For: 10.0.0.1",
        "X.Forwarded-For: 10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "x_real_ip: 10.0.0.1",
        "Client-IP: 10.0.0.1",
        "Proxy: http://evil.test",
        "Keep-Alive: timeout=5",
        "Keep_Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "HTTP2-Settings: AAMA",
        "TE: gzip",
        "Upgrade: websocket",
        "Connection: x-anything",
    ],
)
def test_field_that_is_not_the_visitors_to_send_is_dropped(line: str) -> None:
    assert forwarded("Accept: a", line, "Via: b") == forwarded("Accept: a", "Via: b")


def test_connection_takes_nominated_fields_but_never_ours() -> None:
    nominated = "Connection: close, Cookie, x-mine, X-Forwarded-For, Forwarded, x-forwarded-proto"
    sent = forwarded(nominated, "Cookie: a=b", "X-Mine: 1", "X_MINE: 2", "Accept: c")
    assert sent == forwarded("Accept: c")
    assert FORWARDED in sent


def test_upgrade_is_asked_for_anew() -> None:
    lines = ("Upgrade: WebSocket", "Sec-WebSocket-Version: 13", "Connection: keep-alive, Upgrade")
    read = request(*lines)
    assert read.upgrade == b"websocket"
    sent = Oracle(forwarded(*lines))
    assert sent.all(b"upgrade") == [b"websocket"]
    assert sent.all(b"connection") == [b"Upgrade"]
    assert sent.all(b"sec-websocket-version") == [b"13"]


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        (("Upgrade: websocket",), "GET / HTTP/1.1"),
        (("Connection: Upgrade",), "GET / HTTP/1.1"),
        (("Connection: Upgrade", "Upgrade: websocket"), "GET / HTTP/1.0"),
        (("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"), "POST / HTTP/1.1"),
        (("Connection: Upgrade", "Upgrade: websocket, irc"), "GET / HTTP/1.1"),
    ],
)
def test_upgrade_that_may_be_ignored_is(lines: tuple[str, ...], start: str) -> None:
    assert request(*lines, start=start).upgrade == b""
    assert b"pgrade" not in forwarded(*lines, start=start)


def test_expectation_of_a_body_is_passed_on_in_one_spelling() -> None:
    lines = ("Expect: 100-Continue", "Content-Length: 5")
    assert request(*lines).expect_continue
    assert Oracle(forwarded(*lines)).all(b"expect") == [b"100-continue"]


@pytest.mark.parametrize("start", ["POST / HTTP/1.1", "POST / HTTP/1.0"])
def test_expectation_without_a_body_or_in_http_1_0_is_ignored(start: str) -> None:
    lines = ["Expect: 100-continue", *(["Content-Length: 5"] if start.endswith("0") else [])]
    assert not request(*lines, start=start).expect_continue
    assert b"Expect" not in forwarded(*lines, start=start)


def test_trailers_are_asked_for_where_the_visitor_takes_them() -> None:
    assert request("TE: gzip;q=0.5, Trailers", "Connection: TE").te_trailers
    sent = Oracle(forwarded("TE: gzip, trailers", "Connection: te"))
    assert (sent.all(b"te"), sent.all(b"connection")) == ([b"trailers"], [b"TE"])
    assert not request("TE: trailers", start="GET / HTTP/1.0").te_trailers


@pytest.mark.parametrize(
    ("start", "lines", "repeatable"),
    [
        ("GET / HTTP/1.1", (), True),
        ("DELETE / HTTP/1.1", ("Content-Length: 0",), True),
        ("PUT / HTTP/1.1", ("Content-Length: 1",), False),
        ("GET / HTTP/1.1", ("Transfer-Encoding: chunked",), False),
        ("GET / HTTP/1.1", ("Connection: upgrade", "Upgrade: websocket"), False),
        ("POST / HTTP/1.1", (), False),
        ("get / HTTP/1.1", (), False),
    ],
)
def test_repeatable(start: str, lines: tuple[str, ...], repeatable: bool) -> None:
    assert request(*lines, start=start).repeatable is repeatable


def test_any_field_can_be_looked_up_as_it_came() -> None:
    read = request("X-Forwarded-For: a", "Origin: http://o.test", "ACCEPT: b", "accept:  c ")
    assert (read.get(b"x-forwarded-for"), read.get(b"Cookie")) == (b"a", None)
    assert (read.origin, read.accept) == (b"http://o.test", b"b, c")
    assert (request().origin, request().accept) == (None, b"")


# --- forwarding fields --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "port", "plain", "node"),
    [
        ("192.0.2.1", 0, b"192.0.2.1", b"192.0.2.1"),
        ("192.0.2.1", 4711, b"192.0.2.1", b'"192.0.2.1:4711"'),
        ("2001:db8::1", 0, b"2001:db8::1", b'"[2001:db8::1]"'),
        ("2001:db8::1", 4711, b"2001:db8::1", b'"[2001:db8::1]:4711"'),
        ("::ffff:192.0.2.1", 0, b"192.0.2.1", b"192.0.2.1"),
        ("fe80::1%eth0", 0, b"fe80::1", b'"[fe80::1]"'),
        ("", 4711, b"unknown", b"unknown"),
        ("a\r\nb", 0, b"unknown", b"unknown"),
    ],
)
def test_visitors_address_is_told(address: str, port: int, plain: bytes, node: bytes) -> None:
    assert forwarded_block(address, port, "https", b"") == (
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\nForwarded: for=%b;proto=https\r\n"
        % (plain, node)
    )


@pytest.mark.parametrize(
    ("host", "quoted"),
    [
        (b"app.test", b"app.test"),
        (b"app.test:80", b'"app.test:80"'),
        (b"[::1]:80", b'"[::1]:80"'),
        (b'a"\\', b'"a\\"\\\\"'),
    ],
)
def test_visited_host_is_told(host: bytes, quoted: bytes) -> None:
    block = forwarded_block("192.0.2.1", 0, "http", host)
    assert b"\r\nX-Forwarded-Host: %b\r\n" % host in block
    assert block.endswith(b";host=%b\r\n" % quoted)


# --- responses ---


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("HTTP/1.1 200 OK", b"OK"),
        ("HTTP/1.1 299 Two  Spaces\xe4", b"Two  Spaces\xe4"),
        ("HTTP/1.1 999 ", b""),
        ("HTTP/1.1 404", b""),
    ],
)
def test_status_line(start: str, reason: bytes) -> None:
    read = parse_response(answer(start=start), method=b"GET")
    assert (read.status, read.reason) == (int(start.split(" ")[1]), reason)


@pytest.mark.parametrize(
    ("method", "start", "lines", "framing", "kept"),
    [
        (b"GET", "HTTP/1.1 200 OK", ("Content-Length: 5",), Framing.LENGTH, True),
        (b"GET", "HTTP/1.1 200 OK", ("Content-Length: 0",), Framing.NONE, True),
        (b"GET", "HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), Framing.CHUNKED, True),
        (b"GET", "HTTP/1.1 200 OK", (), Framing.UNTIL_CLOSE, False),
        (b"GET", "HTTP/1.1 200 OK", ("Connection: keep-alive",), Framing.UNTIL_CLOSE, False),
        (b"HEAD", "HTTP/1.1 200 OK", ("Content-Length: 5",), Framing.NONE, True),
        (b"HEAD", "HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), Framing.NONE, True),
        (b"HEAD", "HTTP/1.1 200 OK", (), Framing.NONE, True),
        (b"GET", "HTTP/1.1 204 No Content", ("Content-Length: 5",), Framing.NONE, True),
        (b"GET", "HTTP/1.1 304 Not Modified", ("Content-Length: 5",), Framing.NONE, True),
        (b"GET", "HTTP/1.1 100 Continue", (), Framing.NONE, True),
        (b"GET", "HTTP/1.1 103 Early Hints", ("Link: </a>",), Framing.NONE, True),
        (b"GET", "HTTP/1.1 205 Reset", (), Framing.UNTIL_CLOSE, False),
        (b"GET", "HTTP/1.1 200 OK", ("Content-Length: 5", "Connection: close"), Framing.LENGTH, False),
        (b"GET", "HTTP/1.0 200 OK", ("Content-Length: 5",), Framing.LENGTH, False),
        (b"GET", "HTTP/1.0 200 OK", ("Content-Length: 5", "Connection: keep-alive"), Framing.LENGTH, True),
    ],
)  # fmt: skip
def test_body_of_a_response(
    method: bytes, start: str, lines: tuple[str, ...], framing: Framing, kept: bool
) -> None:
    read = parse_response(answer(*lines, start=start), method=method)
    assert (read.body, read.length) == (framing, 5 if framing is Framing.LENGTH else 0)
    assert read.keep_alive is kept


def passed_on(*lines: str, start: str = "HTTP/1.1 200 OK", keep_alive: bool = True) -> bytes:
    read = parse_response(answer(*lines, start=start), method=b"GET")
    chunked = read.body is Framing.CHUNKED
    return build_response(read, keep_alive=keep_alive, visitor_version=1, chunked=chunked)


def test_response_is_passed_on_line_for_line() -> None:
    lines = ("content-type: text/html", "Set-Cookie: a", "Set-Cookie: b", "Content-Length: 05")
    assert passed_on(*lines, start="HTTP/1.0 200 Fine") == answer(*lines, start="HTTP/1.1 200 Fine")


def test_response_without_fields_is_passed_on() -> None:
    assert passed_on(start="HTTP/1.1 304") == b"HTTP/1.1 304 \r\n\r\n"


def test_hop_by_hop_fields_of_a_response_are_dropped() -> None:
    lines = (
        "Connection: X-Hop, keep-alive",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Upgrade: h2,h2c",
    )
    assert passed_on(*lines, "Content-Length: 0") == answer("Content-Length: 0")


@pytest.mark.parametrize("start", ["HTTP/1.1 204 No Content", "HTTP/1.1 100 Continue"])
def test_length_of_what_has_no_body_is_dropped(start: str) -> None:
    assert passed_on("content-length: 5", "A: b", start=start) == answer("A: b", start=start)


def test_length_in_answer_to_head_is_passed_on() -> None:
    read = parse_response(answer("Content-Length: 5"), method=b"HEAD")
    sent = build_response(read, keep_alive=True, visitor_version=1, chunked=False)
    assert sent == answer("Content-Length: 5")


@pytest.mark.parametrize(
    ("keep_alive", "version", "chunked", "lines"),
    [
        (True, 1, False, ()),
        (True, 0, False, ("Connection: keep-alive",)),
        (False, 1, False, ("Connection: close",)),
        (False, 0, False, ("Connection: close",)),
        (True, 1, True, ("Transfer-Encoding: chunked",)),
    ],
)
def test_visitor_is_told_of_its_connection(
    keep_alive: bool, version: int, chunked: bool, lines: tuple[str, ...]
) -> None:
    read = parse_response(answer("A: b", "Transfer-Encoding: chunked"), method=b"GET")
    sent = build_response(read, keep_alive=keep_alive, visitor_version=version, chunked=chunked)
    assert sent == answer("A: b", *lines)


def test_switch_of_protocols_is_passed_on() -> None:
    start = "HTTP/1.1 101 Switching Protocols"
    data = answer("Upgrade: websocket", "connection: upgrade", "Sec-WebSocket-Accept: x", start=start)
    read = parse_response(data, method=b"GET")
    assert (read.upgrade, read.body, read.keep_alive) == (True, Framing.NONE, False)
    assert build_response(read, keep_alive=False, visitor_version=1, chunked=False) == answer(
        "Sec-WebSocket-Accept: x", "Connection: Upgrade", "Upgrade: websocket", start=start
    )


def test_required_upgrade_is_passed_on() -> None:
    sent = passed_on("Upgrade: websocket", "Content-Length: 0", start="HTTP/1.1 426 Upgrade Required")
    assert b"\r\nUpgrade: websocket\r\n" in sent


def test_repeated_response_is_read_once_but_not_for_another_method() -> None:
    data = answer("Content-Length: 5")
    first = parse_response(data, method=b"GET")
    assert parse_response(bytes(bytearray(data)), method=b"GET", previous=first) is first
    assert parse_response(data, method=b"HEAD", previous=first).body is Framing.NONE


def test_error_tells_its_reason_and_survives_pickling() -> None:
    with pytest.raises(HeadError) as caught:
        request("Content-Length : 5")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.status, again.reason) == (400, "space before a colon")
