"""Datagrams that the supervisor sends for a function."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

from tunnelkit.functions.pin.kernel import Peer
from tunnelkit.functions.pin.pins import MAPPED, Address, Pins

__all__ = ["Message", "read_message", "send"]

# struct msghdr, struct iovec and struct cmsghdr where pointers have 64 bits.
HEADER, PIECE, CONTROL = struct.Struct("<QIxxxxQQQQi4x"), struct.Struct("<QQ"), struct.Struct("<Qii")

MAX_PIECES = 1024
"""IOV_MAX."""

MAX_CONTROL = 4096
"""Bytes of ancillary data; a datagram has a few dozen."""

IP_PKTINFO, IPV6_PKTINFO, IPV6_2292PKTINFO = 8, 50, 2

Ancillary = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram. ``address``: a ``struct sockaddr``, or nothing."""

    address: bytes
    data: bytes
    ancillary: list[Ancillary]


def read_message(peer: Peer, thread: int, header: int) -> Message:
    """What a ``struct msghdr`` in the memory of ``thread`` says. Raises OSError."""
    name, name_length, pieces, count, control, control_length, _ = HEADER.unpack(
        peer.read(thread, header, HEADER.size)
    )
    if count > MAX_PIECES or control_length > MAX_CONTROL:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    table = peer.read(thread, pieces, count * PIECE.size)
    lengths = [length for _, length in PIECE.iter_unpack(table)]
    if sum(lengths) > Peer.MOST:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    data = b"".join(peer.read(thread, base, length) for base, length in PIECE.iter_unpack(table))
    address = peer.read(thread, name, min(name_length, 128)) if name else b""
    return Message(address, data, ancillary(peer.read(thread, control, control_length) if control else b""))


def ancillary(data: bytes) -> list[Ancillary]:
    """Taken apart as CMSG_NXTHDR(3) does. Raises OSError."""
    found = []
    while len(data) >= CONTROL.size:
        length, level, kind = CONTROL.unpack_from(data)
        if not CONTROL.size <= length <= len(data):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        found.append((level, kind, data[CONTROL.size : length]))
        data = data[-(-length // 8) * 8 :]
    return found


def send(sock: socket.socket, message: Message, to: Address | None, pins: Pins, flags: int) -> int:
    """Send it from the pin, or to loopback from where it likes. Raises OSError."""
    kept = [one for one in message.ancillary if not _names_an_interface(one)]
    for one in message.ancillary:
        if _names_an_interface(one) and not _is_ours(one, pins):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    if to is not None and not (to.is_loopback or to.is_any):
        kept.append(_from_pin(to, pins))
    flags |= socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL  # the supervisor waits for nobody
    try:
        if to is None:
            return sock.sendmsg([message.data], kept, flags)
        return sock.sendmsg([message.data], kept, flags, to.text())
    except BlockingIOError:
        # What the link has no room for may be dropped, of a datagram, and this is how that is said.
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)) from None


def _names_an_interface(one: Ancillary) -> bool:
    level, kind, _ = one
    if level == socket.SOL_IP:
        return kind == IP_PKTINFO
    return level == socket.IPPROTO_IPV6 and kind in (IPV6_PKTINFO, IPV6_2292PKTINFO)


def _is_ours(one: Ancillary, pins: Pins) -> bool:
    """Whether the source that it names is none, loopback or a pin."""
    level, _, data = one
    host = data[4:8] if level == socket.SOL_IP else data[:16]
    if len(host) == 16 and host[:12] == MAPPED:
        host = host[12:]
    source = Address(socket.AF_INET if len(host) == 4 else socket.AF_INET6, host, 0)
    return source.is_any or source.is_loopback or host in (pins.v4, pins.v6)


def _from_pin(to: Address, pins: Pins) -> Ancillary:
    """``struct in_pktinfo`` or ``in6_pktinfo``: the interface is chosen by the route."""
    if len(to.host) == 4:
        return socket.SOL_IP, IP_PKTINFO, bytes(4) + pins.v4 + bytes(4)
    return socket.IPPROTO_IPV6, IPV6_PKTINFO, pins.v6 + bytes(4)
