"""What the byte path needs of a socket: the plain one and the TLS one look the same to it."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Protocol

from tunnelkit.net.ready import readable, writable

__all__ = ["AnySocket", "farewell", "hard_close", "holds", "receive", "send_all", "tune", "unsent"]


class AnySocket(Protocol):
    """A connected, non-blocking stream socket.

    After a short or blocked ``send`` the caller sends the rest, the same bytes first. A class with a
    true ``greedy`` attribute may hold received bytes that its descriptor does not report: read it
    again for as long as it :func:`holds` any.
    """

    def fileno(self) -> int: ...
    def recv_into(self, buffer: memoryview, /) -> int: ...
    def send(self, data: bytes | bytearray | memoryview, /) -> int: ...
    def sendmsg(self, buffers: Iterable[bytes | memoryview], /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...
    def getpeername(self) -> object: ...
    def getsockname(self) -> object: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...


def holds(sock: AnySocket) -> bool:
    """Whether a greedy ``sock`` has something that its descriptor does not report."""
    return bool(sock.pending())  # type: ignore[attr-defined]  # which those have


def tune(sock: socket.socket) -> None:
    """No delay for small messages; probes that find a peer that vanished (tcp(7))."""
    with contextlib.suppress(OSError):  # AF_UNIX has neither, and needs neither
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


async def receive(sock: AnySocket, limit: int) -> bytes:
    """Up to ``limit`` bytes as soon as there are any; empty at the end. For handshakes, not for bulk."""
    buffer = bytearray(limit)
    while True:
        try:
            count = sock.recv_into(memoryview(buffer))
            return bytes(buffer[:count])
        except BlockingIOError:
            await readable(sock)


async def send_all(sock: AnySocket, data: bytes) -> None:
    """Send all of ``data``. For handshakes, not for bulk."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await writable(sock)


if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

    def unsent(sock: AnySocket) -> int:
        """Bytes that the peer has not acknowledged (tcp(7), SIOCOUTQ); 0 where that is unknown.

        0 for a connection that is dead, too: the kernel goes on counting what will never be sent.
        """
        try:
            sock.getpeername()
            return int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
        except OSError:
            return 0
else:

    def unsent(sock: AnySocket) -> int:  # noqa: ARG001
        """Not known on this platform."""
        return 0


def farewell(sock: AnySocket) -> None:
    """Close after all has been sent: under TLS that takes a close_notify, if there is room for it now."""
    if getattr(sock, "greedy", False):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
    sock.close()


_NO_LINGER = struct.pack("ii", 1, 0)


def hard_close(sock: AnySocket) -> None:
    """Close with a reset instead of a FIN (socket(7), SO_LINGER). AF_UNIX peers just see the end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()
