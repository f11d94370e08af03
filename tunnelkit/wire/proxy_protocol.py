"""PROXY protocol headers: who the visitor is, said in front of a connection's first byte.

The specification is HAProxy's ``doc/proxy-protocol.txt``. A header holds two addresses of one
family: IPv4 that arrives mapped into IPv6 is unmapped, and mapped where the other side of the same
connection is IPv6.
"""

from __future__ import annotations

import ipaddress

from tunnelkit.wire.address import Endpoint, ip_address

__all__ = ["SIGNATURE", "header_v1", "header_v2"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How a version 2 header begins (§2.2)."""

_LOCAL, _PROXY = b"\x20", b"\x21"
_UNSPEC, _TCP4, _TCP6 = b"\x00", b"\x11", b"\x21"


def header_v1(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """The line for a connection from ``source`` to ``destination`` (§2.1).

    ``PROXY UNKNOWN`` where one of them is missing or has no numeric address.
    """
    pair = _pair(source, destination)
    if pair is None:
        return b"PROXY UNKNOWN\r\n"
    (source_ip, source_port), (destination_ip, destination_port) = pair
    family = "TCP4" if source_ip.version == 4 else "TCP6"
    addresses = f"{_text(source_ip)} {_text(destination_ip)}"
    return f"PROXY {family} {addresses} {source_port} {destination_port}\r\n".encode()


def header_v2(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """The binary header for a connection from ``source`` to ``destination`` (§2.2).

    LOCAL where one of them is missing or has no numeric address: receivers have to accept that, and
    may refuse PROXY with unspecified addresses.
    """
    pair = _pair(source, destination)
    if pair is None:
        return SIGNATURE + _LOCAL + _UNSPEC + bytes(2)
    (source_ip, source_port), (destination_ip, destination_port) = pair
    family = _TCP4 if source_ip.version == 4 else _TCP6
    addresses = source_ip.packed + destination_ip.packed
    body = addresses + source_port.to_bytes(2) + destination_port.to_bytes(2)
    return SIGNATURE + _PROXY + family + len(body).to_bytes(2) + body


_Side4 = tuple[ipaddress.IPv4Address, int]
_Side6 = tuple[ipaddress.IPv6Address, int]


def _pair(
    source: Endpoint | None, destination: Endpoint | None
) -> tuple[_Side4, _Side4] | tuple[_Side6, _Side6] | None:
    """Both sides as addresses of one family; None where that cannot be said."""
    if source is None or destination is None:
        return None
    one, other = _unmapped(source.host), _unmapped(destination.host)
    if one is None or other is None:
        return None
    if isinstance(one, ipaddress.IPv4Address) and isinstance(other, ipaddress.IPv4Address):
        return (one, source.port), (other, destination.port)
    return (_as_ipv6(one), source.port), (_as_ipv6(other), destination.port)


def _unmapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address = ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(address.packed)  # without its zone
    return address


def _as_ipv6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(bytes(10) + b"\xff\xff" + address.packed)


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # From Python 3.13 on mapped addresses end in dotted decimal; the specification has only hex.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.packed.hex(":", 2)
    return str(address)
