"""Where a pinned process is seen to come from, looked at before any of the function's code runs.

The program listens at the address that it would itself leave from, and the process connects there:
if it were not pinned, that is what would be seen. Nothing is sent to other machines.
"""

from __future__ import annotations

import errno
import secrets
import socket

from tunnelkit.errors import ProxyUnavailable
from tunnelkit.functions.pin.pins import Pins

__all__ = ["Observer", "prove"]

ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of other machines that are none (RFC 5737, RFC 3849): a datagram socket that is connected
there shows its source address, and sends nothing."""

PORT = 9
"""Any would do."""

NONCE = 16
"""Bytes by which a connection is known to be the process's."""

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection within this machine."""

BACKLOG = 16
"""Connections of others than the process that may get in its way."""


class Observer:
    """The program's side: listens for the process. Raises ProxyUnavailable."""

    def __init__(self, pins: Pins) -> None:
        self.nonce = secrets.token_bytes(NONCE)
        self._expected: dict[socket.socket, str] = {}
        try:
            for family, pin in _families(pins):
                if pin:
                    self._expected[self._listen(family, pin)] = pin
        except BaseException:
            self.close()
            raise

    def _listen(self, family: socket.AddressFamily, pin: str) -> socket.socket:
        host = _source(family) or pin
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((pin, 0))  # the error then names the pin, not the one that listens
            listener.bind((host, 0))
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ProxyUnavailable(f"Cannot leave from {pin}: {error.strerror}") from None
        return listener

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the process is to connect to."""
        return tuple(listener.getsockname()[:2] for listener in self._expected)

    def check(self) -> None:
        """The process has connected: was it from the pin? Raises ProxyUnavailable."""
        for listener, pin in self._expected.items():
            seen = self._seen(listener)
            if seen != pin:
                raise ProxyUnavailable(f"A process that should leave from {pin} was seen from {seen}")

    def _seen(self, listener: socket.socket) -> str:
        for _ in range(BACKLOG):
            try:
                connection, address = listener.accept()
            except OSError:
                break
            with connection:
                connection.setblocking(False)
                try:
                    if secrets.compare_digest(connection.recv(NONCE), self.nonce):
                        return str(address[0])
                except OSError:  # somebody else's
                    continue
        return "nowhere"

    def close(self) -> None:
        """Listen no more."""
        for listener in self._expected:
            listener.close()


def prove(pins: Pins, addresses: tuple[tuple[str, int], ...], nonce: bytes) -> None:
    """The process's side. Raises OSError or ProxyUnavailable."""
    for family, pin in _families(pins):
        source = _source(family)
        if source != pin:
            raise ProxyUnavailable(
                f"A pinned process would leave from {source}"
                if source
                else f"A pinned process cannot leave from {pin}"
            )
    for host, port in addresses:
        with socket.create_connection((host, port), CONNECT_TIMEOUT) as connection:
            connection.sendall(nonce)


def _families(pins: Pins) -> list[tuple[socket.AddressFamily, str]]:
    return [
        (family, socket.inet_ntop(family, pin) if pin else "")
        for family, pin in ((socket.AF_INET, pins.v4), (socket.AF_INET6, pins.v6))
    ]


def _source(family: socket.AddressFamily) -> str:
    """The address that this process leaves from, without saying so; empty if it does not."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((ELSEWHERE[family], PORT))
            except OSError as error:
                if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                    raise
            source = str(probe.getsockname()[0])  # which a pin is, even where there is no route
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL):
            raise
        return ""
    return "" if source in ("0.0.0.0", "::") else source
