"""Addresses and names as people write them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import InvalidError, InvalidNameError, InvalidPortError, InvalidTargetError
from tunnelkit.wire.address import (
    RESERVED_NAMES,
    Endpoint,
    is_loopback,
    normal_host,
    parse_address,
    parse_listen,
    parse_port,
    parse_port_range,
    parse_target,
    split_host,
    tunnel_name,
)

PORTS = st.integers(1, 65535)
IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)

# What getaddrinfo takes for an address besides, and what would end a line of a head.
DISGUISED = [
    "127.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "1.2.3.4.",
    "\uff11\uff12\uff17.0.0.1",
    "a\0b",
    "a\nb",
    "a b",
    "a..b",
    "-a",
    "a-",
    "a%0ab",
    "user@host",
    "a/b",
    "x" * 64,
    ".".join(["x" * 60] * 5),
]


# --- ports --------------------------------------------------------------------------------------


@given(PORTS)
def test_a_port_is_read_from_its_digits_and_from_a_number(port: int) -> None:
    assert parse_port(str(port)) == parse_port(port) == port


@pytest.mark.parametrize(
    "text",
    [
        70000,
        "70000",
        "abc",
        0,
        "0",
        -1,
        "-1",
        "+80",
        " 80",
        "80 ",
        "80\n",
        "\uff18\uff10",
        "٨٠",
        "0x50",
        "8_0",
        "",
        "1e3",
        "080000",
        True,
        False,
        80.0,
        None,
        "9" * 5000,
    ],
)
def test_what_is_no_port_is_refused(text: Any) -> None:
    with pytest.raises(InvalidPortError) as caught:
        parse_port(text)
    assert len(caught.value.what) < 120


def test_port_zero_is_for_listeners_only() -> None:
    assert parse_port("0", allow_zero=True) == 0


def test_the_error_says_which_port() -> None:
    with pytest.raises(InvalidPortError, match="Not a remote port: '70000'"):
        parse_port("70000", what="remote port")


def test_a_port_range_includes_both_ends() -> None:
    assert parse_port_range("20000-20099") == range(20000, 20100)
    assert parse_port_range("20000") == parse_port_range(20000) == range(20000, 20001)


@pytest.mark.parametrize("text", ["2-1", "1-", "-1", "1-2-3", "0-5", "1-70000", "a-b", "", "1 - 2"])
def test_what_is_no_port_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidPortError):
        parse_port_range(text)


# --- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("8000", Endpoint("localhost", 8000)),
        (8000, Endpoint("localhost", 8000)),
        ("db.internal:5432", Endpoint("db.internal", 5432)),
        ("my_db:5432", Endpoint("my_db", 5432)),
        ("db.internal.:5432", Endpoint("db.internal.", 5432)),
        ("192.0.2.7:80", Endpoint("192.0.2.7", 80)),
        ("[2001:db8::1]:80", Endpoint("2001:db8::1", 80)),
        ("[fe80::1%eth0]:80", Endpoint("fe80::1%eth0", 80)),
        ("tcp://localhost:6379", Endpoint("localhost", 6379)),
        ("http://localhost", Endpoint("localhost", 80)),
        ("HTTP://localhost:3000/", Endpoint("localhost", 3000)),
        ("http://[::1]", Endpoint("::1", 80)),
        ("0.0.0.0:8000", Endpoint("127.0.0.1", 8000)),
        ("[::]:8000", Endpoint("::1", 8000)),
        ("http://0.0.0.0:8000", Endpoint("127.0.0.1", 8000)),
        ("unix:/run/app.sock", Endpoint("", 0, "/run/app.sock")),
        ("unix:///run/app.sock", Endpoint("", 0, "/run/app.sock")),
    ],
)
def test_a_target_is_read(text: str | int, endpoint: Endpoint) -> None:
    assert parse_target(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "abc",
        "abc:",
        "tcp://abc",
        "http://",
        "http://a:b",
        "http://u:p@h:80",
        "[::1]",
        "http://h/path",
        "http://h?q",
        "ftp://h:21",
        "::1:80",
        "[::1]80",
        "[::1]x:80",
        "[::1]:",
        "[1.2.3.4]:80",
        "[::1:80",
        "[fe80::1%a\nb]:80",
        "bücher.example:80",
        "a:b:80",
        " h:80",
        "unix:",
        "unix:app.sock",
        "unix://host/x",
        "unix:/a\0b",
        "unix:/" + "x" * 103,
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_target(text)


@pytest.mark.parametrize("host", DISGUISED)
def test_a_host_has_one_reading(host: str) -> None:
    with pytest.raises(InvalidTargetError):
        parse_target(f"{host}:80")
    with pytest.raises(InvalidTargetError):
        parse_listen(f"{host}:80")


@pytest.mark.parametrize("text", ["0", "70000", "h:0", "h:70000", "tcp://h:x", "\uff18\uff10"])
def test_a_target_with_a_wrong_port_is_told_about_the_port(text: str) -> None:
    with pytest.raises(InvalidPortError):
        parse_target(text)


def test_https_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(InvalidTargetError, match="TLS is not supported") as caught:
        parse_target("https://localhost:8443")
    assert "http://" in caught.value.hint


def test_a_bare_ipv6_address_is_told_about_brackets() -> None:
    with pytest.raises(InvalidTargetError) as caught:
        parse_target("::1:8000")
    assert caught.value.hint == "An IPv6 address stands in brackets: [::1]:8000"


@given(st.text(), st.booleans())
def test_whatever_is_given_is_read_or_refused_in_one_line(text: str, listening: bool) -> None:
    try:
        endpoint = parse_listen(text) if listening else parse_target(text)
    except InvalidError as error:
        written = str(error)
    else:
        written = str(endpoint)
    assert len(written.splitlines()) == 1


@given(IPS, PORTS)
def test_an_endpoint_is_read_again_as_it_was_written(ip: str, port: int) -> None:
    assert parse_address(str(Endpoint(ip, port))) == Endpoint(ip, port)


def test_a_peers_address_is_numeric_and_has_a_port() -> None:
    assert parse_address("192.0.2.1:0") == Endpoint("192.0.2.1", 0)
    for text in ["localhost:80", "192.0.2.1", "", "192.0.2.1:", "192.0.2.1:99999"]:
        with pytest.raises(InvalidError):
            parse_address(text)


def test_an_endpoint_is_written_as_people_write_it() -> None:
    assert str(Endpoint("localhost", 80)) == "localhost:80"
    assert str(Endpoint("::1", 80)) == "[::1]:80"
    assert str(Endpoint("", 0, "/run/a.sock")) == "unix:/run/a.sock"
    assert Endpoint("", 0, "/run/a.sock").is_unix


def test_an_authority_is_split_without_a_port_too() -> None:
    assert split_host("example.com") == ("example.com", "")
    assert split_host("[::1]") == ("::1", "")
    assert split_host("[::1]:x") == ("::1", "x")


# --- listeners ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("8080", Endpoint("127.0.0.1", 8080)),
        (0, Endpoint("127.0.0.1", 0)),
        ("127.0.0.1:0", Endpoint("127.0.0.1", 0)),
        (":8080", Endpoint("", 8080)),
        ("*:8080", Endpoint("", 8080)),
        ("0.0.0.0:80", Endpoint("0.0.0.0", 80)),
        ("[::]:80", Endpoint("::", 80)),
        ("localhost:80", Endpoint("localhost", 80)),
    ],
)
def test_a_listening_address_is_read(text: str | int, endpoint: Endpoint) -> None:
    assert parse_listen(text) == endpoint


@pytest.mark.parametrize("text", ["", ":", "*", "localhost", "*:x", "h:70000", "**:80", "[::1]"])
def test_what_is_no_listening_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_listen(text)


# --- tunnel names -------------------------------------------------------------------------------


def test_a_name_is_folded_to_lower_case() -> None:
    assert tunnel_name("My-App2") == "my-app2"
    assert tunnel_name("a" * 63) == "a" * 63
    assert tunnel_name("7") == "7"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "a.b",
        "..",
        "a\0",
        "a%0a",
        "a\n",
        "a b",
        "_a",
        "a_b",
        "a" * 64,
        "ä",
        "a/b",
        "\N{KELVIN SIGN}",
        "\uff41",
        "xn--nxasmq6b",
        "ab--c",
        "a" * 5000,
    ],
)
def test_what_is_no_name_is_refused_and_shown_safely(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        tunnel_name(name)
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 120


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_reserved_name_is_refused_in_any_case(name: str) -> None:
    with pytest.raises(InvalidNameError, match="reserved"):
        tunnel_name(name.upper())


@given(st.from_regex("[a-z0-9-]{1,63}", fullmatch=True))
def test_a_name_that_is_taken_is_taken_as_it_is(name: str) -> None:
    try:
        assert tunnel_name(name) == name
    except InvalidNameError:
        assert name[0] == "-" or name[-1] == "-" or name[2:4] == "--" or name in RESERVED_NAMES


# --- loopback -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.255.255.254", "::1", "::1%lo", "::ffff:127.0.0.1", "localhost", "LOCALHOST."],
)
def test_loopback_is_told(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "128.0.0.1",
        "::127.0.0.1",
        "::ffff:192.0.2.1",
        "127.1",
        "localhost.com",
        "example.com",
        "a.localhost",
        "::2",
        "64:ff9b::7f00:1",
        "\uff4cocalhost",
    ],
)
def test_what_may_be_elsewhere_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@given(st.ip_addresses(v=4))
def test_mapping_into_ipv6_changes_nothing(address: ipaddress.IPv4Address) -> None:
    assert is_loopback(str(address)) == is_loopback(f"::ffff:{address}")


# --- hosts of others ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("www.example", "www.example"),
        ("WWW.Example.", "www.example"),
        ("localhost", "localhost"),
        ("my_host", "my_host"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]", "192.0.2.1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("www。example", "www.example"),
        ("\uff57\uff57\uff57.example", "www.example"),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
        ("\N{KELVIN SIGN}.example", "k.example"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
)
def test_a_host_has_one_spelling(host: str, normal: str) -> None:
    assert normal_host(host) == normal
    assert normal_host(normal) == normal


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "2130706433",
        "127.1",
        "127.0.0.01",
        "127.0.0.1.1",
        "1.2.3.256",
        "0",
        "a.0x",
        "\uff11\uff12\uff17.1",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "[192.0.2.1]",
        "[::1",
        "::1]",
        "[]",
        "[::1]:80",
        "www.example:80",
        "user@www.example",
        "www.example/",
        "www example",
        "www.example\0",
        "www.example\n",
        "%31%32",
        "*.example",
        "-a.example",
        "a-.example",
        "\u00ad",
        f"{'a' * 64}.example",
        ".".join(["a" * 60] * 5),
        "ü" * 300,
        "xn--\u00fc.example",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidTargetError) as caught:
        normal_host(host)
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 120


@given(st.text(max_size=30))
def test_a_host_is_refused_or_safe(host: str) -> None:
    try:
        normal = normal_host(host)
    except InvalidTargetError:
        return
    assert normal_host(normal) == normal
    assert set(normal) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")
    if normal[-1].isdigit() and ":" not in normal and normal.rpartition(".")[2].isdigit():
        assert ipaddress.IPv4Address(normal)


@given(st.ip_addresses())
def test_an_address_is_a_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert normal_host(str(address)) == str(mapped or address)
