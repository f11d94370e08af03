from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.wire.http_head import HeadError, find_head_end
from tunnelkit.wire.http_proxy import Connect, basic_credentials, parse_connect, parse_forward


def head(line: str, *fields: str) -> bytes:
    return "".join(f"{each}\r\n" for each in (line, *fields, "")).encode("latin-1")


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("example.com:443", "example.com", 443),
        ("EXAMPLE.com.:443", "example.com", 443),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("2001:db8::1:443", "2001:db8::1", 443),
    ],
)
def test_where_a_connect_goes(authority: str, host: str, port: int) -> None:
    assert parse_connect(head(f"CONNECT {authority} HTTP/1.1")) == Connect(host, port, b"")


def test_a_connect_s_credentials() -> None:
    request = head("CONNECT a:1 HTTP/1.0", "Host: b", "Proxy-Authorization:  Basic YTpi ")
    assert parse_connect(request).authorization == b"Basic YTpi"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT example.com HTTP/1.1", 400),
        ("CONNECT example.com:0 HTTP/1.1", 400),
        ("CONNECT example.com:65536 HTTP/1.1", 400),
        ("CONNECT :443 HTTP/1.1", 400),
        ("CONNECT a@example.com:443 HTTP/1.1", 400),
        ("CONNECT http://example.com:443 HTTP/1.1", 400),
        ("CONNECT 2001:db8:1:443 HTTP/1.1", 400),
        ("CONNECT [2001:db8::1] HTTP/1.1", 400),
        ("CONNECT example.com:443  HTTP/1.1", 400),
        ("CONNECT example.com:443", 400),
        ("CONNECT example.com:443 HTTP/1.2", 505),
    ],
)
def test_what_is_no_connect(line: str, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        parse_connect(head(line))
    assert caught.value.status == status


@pytest.mark.parametrize("field", ["Content-Length: 0", "Transfer-Encoding: chunked", "Content_Length: 1"])
def test_a_connect_has_no_body(field: str) -> None:
    with pytest.raises(HeadError):
        parse_connect(head("CONNECT example.com:443 HTTP/1.1", field))


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target"),
    [
        ("http://example.com/", "example.com", 80, b"example.com", b"/"),
        ("http://example.com", "example.com", 80, b"example.com", b"/"),
        ("HTTP://Example.com?q=http://b/", "example.com", 80, b"example.com", b"/?q=http://b/"),
        ("http://example.com:8080/a//b?c", "example.com", 8080, b"example.com:8080", b"/a//b?c"),
        ("http://[2001:db8::1]/", "2001:db8::1", 80, b"[2001:db8::1]", b"/"),
        ("http://[2001:db8::1]:8080/", "2001:db8::1", 8080, b"[2001:db8::1]:8080", b"/"),
    ],
)
def test_where_a_request_goes(url: str, host: str, port: int, authority: bytes, target: bytes) -> None:
    forward = parse_forward(head(f"GET {url} HTTP/1.1", "Host: elsewhere"))
    assert forward[1:] == (host, port, authority)
    assert forward.head.target == target


def test_options_of_the_server_as_a_whole() -> None:
    assert parse_forward(head("OPTIONS http://a HTTP/1.1", "Host: a")).head.target == b"*"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "example.com",
        "//example.com/",
        "https://example.com/",
        "ftp://example.com/",
        "http:///",
        "http://a@example.com/",
        "http://example.com:/",
        "http://2001:db8::1:80/",
        "http://example.com:0x50/",
        "http://example.com/#a",
        "http://exämple.com/",
        "http://example.com\\@b/",
        "http://127.0.0.1%00.example.com/",
    ],
)
def test_what_is_no_request_for_a_proxy(target: str) -> None:
    with pytest.raises(HeadError):
        parse_forward(head(f"GET {target} HTTP/1.1", "Host: example.com"))


def test_a_request_without_a_host_is_one_of_http_1_0() -> None:
    assert parse_forward(head("GET http://a/ HTTP/1.0")).host == "a"
    with pytest.raises(HeadError):
        parse_forward(head("GET http://a/ HTTP/1.1"))


def test_the_previous_request_is_no_other_one_s_destination() -> None:
    first = parse_forward(head("GET http://a/1 HTTP/1.1", "Host: a"))
    second = parse_forward(head("GET http://b:81/2 HTTP/1.1", "Host: a"), first.head)
    assert second[1:] == ("b", 81, b"b:81")
    assert second.head.target == b"/2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Basic " + b64encode(b"a:b:c"), ("a", "b:c")),
        (b"basic " + b64encode("ü:é".encode()), ("ü", "é")),
        (b"Basic " + b64encode(b":"), ("", "")),
        (b"Basic " + b64encode(b"a"), None),
        (b"Basic !!!", None),
        (b"Basic " + b64encode(b"\xff:\xff"), None),
        (b"Bearer abc", None),
        (b"", None),
    ],
)
def test_basic_credentials(value: bytes, expected: tuple[str, str] | None) -> None:
    assert basic_credentials(value) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    for read, line in ((parse_connect, b"CONNECT "), (parse_forward, b"GET http://")):
        whole = line + data + b"\r\n\r\n"
        try:
            end = find_head_end(whole)
            read(whole[:end])
        except HeadError:
            continue
