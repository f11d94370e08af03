"""What an address is for: the special-purpose addresses of the Internet, as one table.

The rows are IANA's registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890), multicast
(RFC 5771, RFC 4291) and the addresses where clouds hand out credentials. A table, since the
opinions of ``ipaddress`` vary by version, and know neither of metadata nor of addresses inside
addresses.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

__all__ = [
    "PUBLIC",
    "SPECIAL_ADDRESSES",
    "IpAddress",
    "IpNetwork",
    "address_class",
    "inner_addresses",
    "own_class",
    "plain",
]

IpAddress = IPv4Address | IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PUBLIC = "public"

SPECIAL_ADDRESSES = MappingProxyType(
    {
        # --- IPv4 ---
        "0.0.0.0/8": "unspecified",  # "this network", RFC 791 §3.2; connect(2) takes 0.0.0.0 for loopback
        "10.0.0.0/8": "private",  # RFC 1918
        "100.64.0.0/10": "shared",  # behind a carrier's NAT, RFC 6598
        "100.100.100.200/32": "metadata",  # Alibaba Cloud
        "127.0.0.0/8": "loopback",  # RFC 1122 §3.2.1.3
        "168.63.129.16/32": "metadata",  # Azure's wire server, reachable from each virtual machine
        "169.254.0.0/16": "link-local",  # RFC 3927
        "169.254.169.254/32": "metadata",  # AWS, Azure, Google Cloud, DigitalOcean, OpenStack, …
        "169.254.169.253/32": "metadata",  # AWS, name server of a VPC
        "169.254.170.2/32": "metadata",  # AWS, credentials of ECS tasks
        "169.254.170.23/32": "metadata",  # AWS, credentials of EKS pods
        "169.254.42.42/32": "metadata",  # Scaleway
        "172.16.0.0/12": "private",  # RFC 1918
        "192.0.0.0/24": "protocol",  # IETF protocol assignments, RFC 6890
        "192.0.0.9/32": PUBLIC,  # anycast of the Port Control Protocol, RFC 7723
        "192.0.0.10/32": PUBLIC,  # anycast of TURN, RFC 8155
        "192.0.0.192/32": "metadata",  # Oracle Cloud
        "192.0.2.0/24": "documentation",  # RFC 5737
        "192.88.99.0/24": "6to4",  # relays, RFC 7526
        "192.168.0.0/16": "private",  # RFC 1918
        "198.18.0.0/15": "benchmarking",  # RFC 2544
        "198.51.100.0/24": "documentation",  # RFC 5737
        "203.0.113.0/24": "documentation",  # RFC 5737
        "224.0.0.0/4": "multicast",  # RFC 5771
        "240.0.0.0/4": "reserved",  # RFC 1112 §4
        "255.255.255.255/32": "broadcast",  # RFC 919 §7
        # --- IPv6 ---
        "::/3": "reserved",  # not delegated but for what follows, RFC 4291 §4
        "4000::/2": "reserved",
        "8000::/1": "reserved",
        "::/128": "unspecified",  # RFC 4291 §2.5.2
        "::1/128": "loopback",  # RFC 4291 §2.5.3
        "64:ff9b::/96": PUBLIC,  # NAT64, RFC 6052; see inner_addresses
        "64:ff9b:1::/48": "nat64",  # a network's own, which alone knows where the IPv4 address is, RFC 8215
        "100::/64": "discard",  # RFC 6666
        "100:0:0:1::/64": "discard",  # RFC 9780
        "2001::/23": "protocol",  # IETF protocol assignments, RFC 2928
        "2001::/32": "teredo",  # RFC 4380
        "2001:1::1/128": PUBLIC,  # anycast of the Port Control Protocol, RFC 7723
        "2001:1::2/128": PUBLIC,  # anycast of TURN, RFC 8155
        "2001:2::/48": "benchmarking",  # RFC 5180
        "2001:3::/32": PUBLIC,  # AMT, RFC 7450
        "2001:4:112::/48": PUBLIC,  # AS112, RFC 7535
        "2001:20::/28": PUBLIC,  # ORCHIDv2, RFC 7343
        "2001:30::/28": PUBLIC,  # drone identifiers, RFC 9374
        "2001:db8::/32": "documentation",  # RFC 3849
        "2002::/16": "6to4",  # RFC 3056
        "3fff::/20": "documentation",  # RFC 9637
        "5f00::/16": "segment-routing",  # RFC 9602
        "fc00::/7": "private",  # unique local, RFC 4193
        "fd00:ec2::/32": "metadata",  # AWS: fd00:ec2::254, name server and clock; fd00:ec2::23 of EKS pods
        "fd20:ce::254/128": "metadata",  # Google Cloud
        "fd00:42::42/128": "metadata",  # Scaleway
        "fe80::/10": "link-local",  # RFC 4291 §2.5.6
        "fec0::/10": "private",  # site-local, RFC 3879
        "ff00::/8": "multicast",  # RFC 4291 §2.7
    }
)
"""Classes by network. The longest network that holds an address counts."""


def _by_length(version: int) -> list[tuple[int, dict[int, str]]]:
    """For the lookup: how far to shift an address, and the classes of what is left; longest first."""
    lengths: dict[int, dict[int, str]] = {}
    for text, name in SPECIAL_ADDRESSES.items():
        network = ipaddress.ip_network(text)
        if network.version == version:
            shift = network.max_prefixlen - network.prefixlen
            lengths.setdefault(shift, {})[int(network.network_address) >> shift] = name
    return sorted(lengths.items())


_IPV4 = _by_length(4)
_IPV6 = _by_length(6)


def plain(address: IpAddress) -> IpAddress:
    """``address`` itself, or the IPv4 address that is only written as IPv6 (RFC 4291 §2.5.5.2)."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def own_class(address: IpAddress) -> str:
    """The class in the table, of ``address`` alone."""
    value = int(address)
    for shift, names in _IPV4 if address.version == 4 else _IPV6:
        name = names.get(value >> shift)
        if name is not None:
            return name
    return PUBLIC


_BEFORE_IPV4 = frozenset(
    {
        0xFFFF,  # ::ffff:0:0/96, mapped, RFC 4291 §2.5.5.2
        0x0064_FF9B << 64,  # 64:ff9b::/96, NAT64, RFC 6052 §2.1
        0xFFFF << 16,  # ::ffff:0:0:0/96, translated, RFC 2765 §2.1
        0,  # ::/96, compatible, RFC 4291 §2.5.5.1
    }
)
"""The first 96 bits of addresses whose others are an IPv4 address."""


def inner_addresses(address: IpAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that packets to ``address`` are sent to, where it is made from some."""
    if isinstance(address, IPv4Address):
        return ()
    value = int(address)
    last = value & 0xFFFF_FFFF
    if value >> 32 in _BEFORE_IPV4 and value > 1:  # but neither :: nor ::1
        return (IPv4Address(last),)
    if value >> 112 == 0x2002:  # 6to4, RFC 3056 §2
        return (IPv4Address(value >> 80 & 0xFFFF_FFFF),)
    if value >> 96 == 0x2001_0000:  # Teredo: the client, its bits inverted, and its server, RFC 4380 §4
        return (IPv4Address(last ^ 0xFFFF_FFFF), IPv4Address(value >> 64 & 0xFFFF_FFFF))
    return ()


def address_class(address: IpAddress) -> str:
    """What ``address`` is for: :data:`PUBLIC`, or the first special class found.

    That of an address inside it counts first: ``::ffff:127.0.0.1`` is loopback, and
    ``64:ff9b::a00:1``, which NAT64 sends to ``10.0.0.1``, private.
    """
    address = plain(address)
    for inner in inner_addresses(address):
        name = own_class(inner)
        if name != PUBLIC:
            return name
    return own_class(address)
