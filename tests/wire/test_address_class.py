"""The table of special addresses."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.wire.address_class import (
    PUBLIC,
    SPECIAL_ADDRESSES,
    address_class,
    inner_addresses,
    own_class,
    plain,
)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.255.255.255", "unspecified"),
        ("1.0.0.0", PUBLIC),
        ("9.255.255.255", PUBLIC),
        ("10.0.0.0", "private"),
        ("10.255.255.255", "private"),
        ("11.0.0.0", PUBLIC),
        ("100.63.255.255", PUBLIC),
        ("100.64.0.0", "shared"),
        ("100.127.255.255", "shared"),
        ("100.128.0.0", PUBLIC),
        ("100.100.100.200", "metadata"),
        ("126.255.255.255", PUBLIC),
        ("127.0.0.0", "loopback"),
        ("127.255.255.255", "loopback"),
        ("128.0.0.0", PUBLIC),
        ("168.63.129.15", PUBLIC),
        ("168.63.129.16", "metadata"),
        ("169.253.255.255", PUBLIC),
        ("169.254.0.0", "link-local"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("169.255.0.0", PUBLIC),
        ("172.15.255.255", PUBLIC),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.0", PUBLIC),
        ("192.0.0.1", "protocol"),
        ("192.0.0.9", PUBLIC),
        ("192.0.0.11", "protocol"),
        ("192.0.0.192", "metadata"),
        ("192.0.1.0", PUBLIC),
        ("192.0.2.255", "documentation"),
        ("192.0.3.0", PUBLIC),
        ("192.88.99.1", "6to4"),
        ("192.167.255.255", PUBLIC),
        ("192.168.0.0", "private"),
        ("192.169.0.0", PUBLIC),
        ("198.17.255.255", PUBLIC),
        ("198.18.0.0", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.20.0.0", PUBLIC),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("223.255.255.255", PUBLIC),
        ("224.0.0.0", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.0", "reserved"),
        ("255.255.255.254", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("100::1", "discard"),
        ("100:0:0:1::1", "discard"),
        ("1fff::1", "reserved"),
        ("2000::1", PUBLIC),
        ("2001:1::1", PUBLIC),
        ("2001:1::3", "protocol"),
        ("2001:2::1", "benchmarking"),
        ("2001:1ff::1", "protocol"),
        ("2001:200::1", PUBLIC),
        ("2001:db7:ffff::1", PUBLIC),
        ("2001:db8::1", "documentation"),
        ("2001:db9::1", PUBLIC),
        ("2001:4860:4860::8888", PUBLIC),
        ("3ffe:ffff::1", PUBLIC),
        ("3fff::1", "documentation"),
        ("3fff:1000::1", PUBLIC),
        ("4000::1", "reserved"),
        ("5f00::1", "segment-routing"),
        ("fbff::1", "reserved"),
        ("fc00::1", "private"),
        ("fdff::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe7f::1", "reserved"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "private"),
        ("ff02::fb", "multicast"),
    ],
)
def test_a_class_ends_where_its_network_does(address: str, name: str) -> None:
    assert address_class(ip_address(address)) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", PUBLIC),
        ("::ffff:0:10.0.0.1", "private"),
        ("::127.0.0.1", "loopback"),
        ("::8.8.8.8", "reserved"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("64:ff9b::8.8.8.8", PUBLIC),
        ("64:ff9b:0:0:0:1:808:808", "reserved"),
        ("64:ff9b:1::808:808", "nat64"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:808:808::1", "6to4"),
        ("2001:0:808:808::80ff:fffe", "loopback"),  # its client is 127.0.0.1
        ("2001:0:a00:1::f7f7:f7f7", "private"),  # its server is 10.0.0.1
        ("2001:0:808:808::f7f7:f7f7", "teredo"),
    ],
)
def test_addresses_inside_addresses_count_first(address: str, name: str) -> None:
    assert address_class(ip_address(address)) == name


@given(st.ip_addresses(v=4))
def test_ipv4_written_as_ipv6_is_what_it_is(address: IPv4Address) -> None:
    mapped = ip_address(f"::ffff:{address}")
    assert plain(mapped) == address
    assert address_class(mapped) == address_class(address)
    assert inner_addresses(mapped) == (address,)


@given(st.ip_addresses(v=4))
def test_no_translation_leads_to_a_special_address(address: IPv4Address) -> None:
    number = int(address)
    for translated in (
        IPv6Address(f"64:ff9b::{address}"),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x2001_0000 << 96 | 0x0808_0808 << 64 | number ^ 0xFFFF_FFFF),
        IPv6Address(0x2001_0000 << 96 | number << 64 | 0x0808_0808 ^ 0xFFFF_FFFF),
    ):
        assert address in inner_addresses(translated)
        if own_class(address) != PUBLIC:
            assert address_class(translated) == own_class(address)


NEAR = st.sampled_from(list(SPECIAL_ADDRESSES)).flatmap(lambda text: st.ip_addresses(network=text))


@given(st.one_of(st.ip_addresses(), NEAR))
def test_the_longest_network_counts(address) -> None:
    holding = [network for network in map(ip_network, SPECIAL_ADDRESSES) if address in network]
    longest = max(holding, key=lambda network: network.prefixlen, default=None)
    assert own_class(address) == (SPECIAL_ADDRESSES[str(longest)] if longest else PUBLIC)


@given(st.ip_addresses())
def test_what_python_takes_for_special_is(address) -> None:
    # The other way round it is not so: ipaddress calls some of what we close global.
    address = plain(address)
    anycast = any(address in ip_network(n) for n, name in SPECIAL_ADDRESSES.items() if name == PUBLIC)
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert address_class(address) != PUBLIC or anycast


def test_networks_are_written_in_their_usual_form() -> None:
    assert all(str(ipaddress.ip_network(text)) == text for text in SPECIAL_ADDRESSES)
