"""PROXY protocol headers, byte for byte as in HAProxy's doc/proxy-protocol.txt."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.proxy_protocol import (
    MAX_HEADER,
    MAX_LINE,
    SIGNATURE,
    HeaderError,
    header_v1,
    header_v2,
    read_header,
)

PORTS = st.integers(0, 65535)
IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))

MISSING = [
    (None, None),
    (Endpoint("192.0.2.1", 80), None),
    (None, Endpoint("192.0.2.1", 80)),
    (Endpoint("", 0, "/run/a.sock"), Endpoint("192.0.2.1", 80)),
    (Endpoint("localhost", 80), Endpoint("192.0.2.1", 80)),
]


def test_the_line_of_the_specifications_example() -> None:
    line = header_v1(Endpoint("192.168.0.1", 56324), Endpoint("192.168.0.11", 443))
    assert line == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"


def test_the_longest_lines_have_the_specifications_lengths() -> None:
    ip4, ip6 = "255.255.255.255", ":".join(["ffff"] * 8)
    assert len(header_v1(Endpoint(ip4, 65535), Endpoint(ip4, 65535))) == 56
    assert len(header_v1(Endpoint(ip6, 65535), Endpoint(ip6, 65535))) == 104


def test_the_binary_header_of_ipv4() -> None:
    header = header_v2(Endpoint("192.168.0.1", 56324), Endpoint("192.168.0.11", 443))
    assert header == (
        b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
        b"\x21\x11\x00\x0c"
        b"\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb"
    )


def test_the_binary_header_of_ipv6() -> None:
    header = header_v2(Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2))
    prefix = b"\x20\x01\x0d\xb8" + bytes(11)
    assert header == SIGNATURE + b"\x21\x21\x00\x24" + prefix + b"\1" + prefix + b"\2\0\1\0\2"


@pytest.mark.parametrize(("source", "destination"), MISSING)
def test_a_missing_address_is_said_to_be_missing(
    source: Endpoint | None, destination: Endpoint | None
) -> None:
    assert header_v1(source, destination) == b"PROXY UNKNOWN\r\n"
    assert header_v2(source, destination) == SIGNATURE + b"\x20\x00\x00\x00"


def test_ipv4_from_a_dual_stack_listener_is_unmapped() -> None:
    line = header_v1(Endpoint("::ffff:192.0.2.1", 1), Endpoint("::ffff:c000:202", 2))
    assert line == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"


def test_ipv4_beside_ipv6_is_mapped_and_written_in_hex() -> None:
    ends = Endpoint("192.0.2.1", 1), Endpoint("2001:db8::2", 2)
    assert header_v1(*ends) == b"PROXY TCP6 0000:0000:0000:0000:0000:ffff:c000:0201 2001:db8::2 1 2\r\n"
    assert header_v2(*ends)[16:32] == bytes(10) + b"\xff\xff\xc0\x00\x02\x01"


def test_the_zone_of_a_link_local_address_stays_here() -> None:
    ends = Endpoint("fe80::1%eth0", 1), Endpoint("fe80::2%eth0", 2)
    assert header_v1(*ends) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"


@given(IPS, PORTS, IPS, PORTS)
def test_both_versions_say_the_same_of_any_two_addresses(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other_port: int,
) -> None:
    ends = Endpoint(str(one), port), Endpoint(str(other), other_port)
    line, header = header_v1(*ends), header_v2(*ends)
    _, family, *addresses, first, second = line.decode().split()
    size = {"TCP4": 4, "TCP6": 16}[family]
    assert len(line) <= 107
    assert [ipaddress.ip_address(text).packed for text in addresses] == [
        header[16 : 16 + size],
        header[16 + size : 16 + 2 * size],
    ]
    assert int(first).to_bytes(2) + int(second).to_bytes(2) == header[16 + 2 * size :]
    assert int.from_bytes(header[14:16]) == len(header) - 16


# --- reading --------------------------------------------------------------------------------------

BOTH = [header_v1, header_v2]


@pytest.mark.parametrize("write", BOTH)
@given(one=IPS, port=PORTS, other=IPS, other_port=PORTS, rest=st.binary(max_size=40))
def test_what_is_written_is_read_byte_by_byte(
    write: Callable[[Endpoint, Endpoint], bytes],
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other_port: int,
    rest: bytes,
) -> None:
    header = write(Endpoint(str(one), port), Endpoint(str(other), other_port))
    assert all(read_header(header[:end]) is None for end in range(len(header)))
    found = read_header(header + rest)
    assert found is not None
    length, source = found
    assert length == len(header)
    assert source is not None
    said = ipaddress.ip_address(source.host)
    assert (getattr(said, "ipv4_mapped", None) or said) == (getattr(one, "ipv4_mapped", None) or one)
    assert source.port == port


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x00\x00\x03abc",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
    ],
)
def test_a_connection_may_speak_for_itself(header: bytes) -> None:
    assert read_header(header + b"GET") == (len(header), None)


def test_what_else_a_balancer_says_is_passed_over() -> None:
    header = header_v2(Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2))
    more = b"\x04\x00\x02ab"
    longer = header[:14] + (12 + len(more)).to_bytes(2) + header[16:] + more
    assert read_header(longer + b"GET") == (len(longer), Endpoint("192.0.2.1", 1))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.\xb2 192.0.2.2 1 2\r\n",
        b"PROXY \r\n",
        b"PROXY " + bytes(MAX_LINE),
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(12),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(40),
        SIGNATURE + b"\x21\x11" + (MAX_HEADER + 1).to_bytes(2),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read_header(data)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
)
def test_noise_is_refused_or_waited_for_within_bounds(noise: bytes, start: bytes) -> None:
    try:
        found = read_header(start + noise)
    except HeaderError:
        return
    if found is None:
        assert len(start + noise) < MAX_HEADER
    else:
        assert found[0] <= len(start + noise)
