"""Which address a function's connections leave from, by where they go."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["Address", "Pins"]

MAPPED = bytes(10) + b"\xff\xff"
"""Of an IPv4 address as an IPv6 socket writes it (RFC 4291 §2.5.5.2)."""

LOOPBACK, LOOPBACK6 = socket.inet_aton("127.0.0.1"), bytes(15) + b"\1"
ANY, ANY6 = bytes(4), bytes(16)


@dataclass(frozen=True, slots=True)
class Address:
    """``struct sockaddr_in`` or ``sockaddr_in6``, taken apart."""

    family: int
    """Of the structure: an IPv4 address may stand in one of IPv6."""
    host: bytes
    """Four bytes, or sixteen."""
    port: int
    scope: int = 0

    @classmethod
    def read(cls, data: bytes) -> Address | None:
        """None if it is no internet address, or a part of one."""
        family = int.from_bytes(data[:2], "little")
        if family == socket.AF_INET and len(data) >= 16:
            return cls(family, data[4:8], int.from_bytes(data[2:4]))
        if family == socket.AF_INET6 and len(data) >= 24:
            host = data[8:24]
            scope = int.from_bytes(data[24:28], "little")
            return cls(family, host[12:] if host[:12] == MAPPED else host, int.from_bytes(data[2:4]), scope)
        return None

    @property
    def is_loopback(self) -> bool:
        return self.host[0] == 127 if len(self.host) == 4 else self.host == LOOPBACK6

    @property
    def is_any(self) -> bool:
        """As a destination that is loopback, too."""
        return not any(self.host)

    def packed(self) -> bytes:
        port = self.port.to_bytes(2)
        if self.family == socket.AF_INET:
            return struct.pack("<H", socket.AF_INET) + port + self.host + bytes(8)
        host = MAPPED + self.host if len(self.host) == 4 else self.host
        return struct.pack("<H", socket.AF_INET6) + port + bytes(4) + host + struct.pack("<I", self.scope)

    def text(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """As :mod:`socket` has it."""
        if self.family == socket.AF_INET:
            return socket.inet_ntoa(self.host), self.port
        host = MAPPED + self.host if len(self.host) == 4 else self.host
        return socket.inet_ntop(socket.AF_INET6, host), self.port, 0, self.scope


@dataclass(frozen=True, slots=True)
class Pins:
    """At most one address of each family; a family without one does not leave at all."""

    v4: bytes = b""
    v6: bytes = b""

    @classmethod
    def of(cls, addresses: tuple[str, ...]) -> Pins:
        """The first of each family."""
        parsed = [ip_address(address) for address in addresses]
        v4 = next((address.packed for address in parsed if isinstance(address, IPv4Address)), b"")
        v6 = next((address.packed for address in parsed if isinstance(address, IPv6Address)), b"")
        return cls(v4, v6)

    def towards(self, to: Address) -> Address | None:
        """What to bind to before connecting there, which is not loopback."""
        host = self.v4 if len(to.host) == 4 else self.v6
        return Address(to.family, host, 0) if host else None

    def binding(self, wanted: Address, *, stream: bool, only6: bool) -> Address | None:
        """What a socket is bound to that wants ``wanted``; None if it may not be.

        Every address is loopback for who listens, and the pin for datagrams, most of whose senders
        are clients. ``only6``: an IPv6 socket that takes no IPv4.
        """
        if not wanted.is_any:
            own = wanted.is_loopback or wanted.host in (self.v4, self.v6)
            return wanted if own else None
        if wanted.family == socket.AF_INET:
            host = LOOPBACK if stream else self.v4
        elif only6:
            host = LOOPBACK6 if stream else self.v6
        else:
            host = LOOPBACK if stream else self.v4 or self.v6
        return Address(wanted.family, host, wanted.port) if host else None
