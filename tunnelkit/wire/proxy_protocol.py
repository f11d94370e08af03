"""PROXY protocol headers: who the visitor is, said in front of a connection's first byte.

The specification is HAProxy's ``doc/proxy-protocol.txt``. A header holds two addresses of one
family: IPv4 that arrives mapped into IPv6 is unmapped, and mapped where the other side of the same
connection is IPv6.
"""

from __future__ import annotations

import ipaddress
import re

from tunnelkit.wire.address import Endpoint, ip_address

__all__ = ["MAX_HEADER", "SIGNATURE", "HeaderError", "header_v1", "header_v2", "read_header"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How a version 2 header begins (§2.2)."""

MAX_LINE = 107
"""Bytes of the longest version 1 header, its CRLF included (§2.1)."""

MAX_HEADER = 4096
"""Bytes of a header that is read. With all that a load balancer says of TLS and its cloud it has some
hundred; the format has room for 64 KiB."""

_LINE = b"PROXY "
_FIXED = len(SIGNATURE) + 4
_LOCAL, _PROXY = b"\x20", b"\x21"
_UNSPEC, _TCP4, _TCP6 = b"\x00", b"\x11", b"\x21"
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


class HeaderError(ValueError):
    """These bytes are no PROXY protocol header."""


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


def read_header(data: bytes) -> tuple[int, Endpoint | None] | None:
    """The length of the header with which ``data`` begins, and whom the connection is from.

    None: the header is not whole yet, and all of ``data`` belongs to it. No endpoint: the connection
    speaks for itself (LOCAL, UNKNOWN), as in a health check, or comes from where there are no addresses and
    ports. Raises HeaderError.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[: len(_LINE)] == _LINE[: len(data)]:
        return _read_v1(data)
    raise HeaderError("no PROXY protocol header")


def _read_v1(data: bytes) -> tuple[int, Endpoint | None] | None:
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise HeaderError(f"a line over {MAX_LINE} bytes")
        return None
    try:
        family, *words = data[len(_LINE) : end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise HeaderError("a line that is not ASCII") from None
    if family == "UNKNOWN":
        return end + 2, None  # whatever else it says (§2.1)
    version = {"TCP4": 4, "TCP6": 6}.get(family)
    if version is None or len(words) != 4:
        raise HeaderError("a malformed line")
    *hosts, source_port, port = words
    ips = [ip_address(host) for host in hosts]
    if any(ip is None or ip.version != version or "%" in str(ip) for ip in ips):
        raise HeaderError("a line with a malformed address")
    if any(not _PORT.fullmatch(number) or int(number) > 0xFFFF for number in (source_port, port)):
        raise HeaderError("a line with a malformed port")
    return end + 2, Endpoint(str(ips[0]), int(source_port))


def _read_v2(data: bytes) -> tuple[int, Endpoint | None] | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12:13], data[13:14]
    if command not in (_LOCAL, _PROXY):
        raise HeaderError("a version or command that there is not")
    length = _FIXED + int.from_bytes(data[14:16])
    if length > MAX_HEADER:
        raise HeaderError(f"a header over {MAX_HEADER} bytes")
    size = {_TCP4: 4, _TCP6: 16}.get(family)
    if command == _PROXY and size is not None and length < _FIXED + 2 * size + 4:
        raise HeaderError("a header too short for its addresses")
    if len(data) < length:
        return None
    if command == _LOCAL or size is None:
        return length, None
    address = ipaddress.ip_address(data[_FIXED : _FIXED + size])
    port = _FIXED + 2 * size
    return length, Endpoint(str(address), int.from_bytes(data[port : port + 2]))


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
