"""The first bytes of a connection to the relay's own port say what it is: TLS, SSH or HTTP.

They are received, not peeked at, and handed on: a peek at an incomplete hello would be ready again
at once, without end. Nothing is said first, for every client of these three speaks first; one that
does not is closed after the head time-out.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket, hard_close
from tunnelkit.relay.registry import RelayTunnel

if TYPE_CHECKING:
    from tunnelkit.net.tls_server import Handshakes

__all__ = ["Front"]

log = logging.getLogger("tunnelkit")

SSH_GREETING = b"SSH-"
"""RFC 4253 §4.2."""

TLS_HANDSHAKE = 0x16
"""The content type of a hello (RFC 8446 §5.1)."""

TLS_ALERT = bytes((21, 3, 3, 0, 2, 2, 40))
"""A fatal alert, handshake_failure (RFC 8446 §6): there is no TLS here."""

FIRST_READ = 16 * 1024
"""Bytes of the first receive; a head or a hello fits, and the rest comes to whoever takes over."""

Ssh = Callable[[socket.socket, tuple[Any, ...], bytes], None]
"""Takes a connection over, with its address and what has been received of it."""


class Http(Protocol):
    """As :data:`Ssh`, also after a handshake; on a tunnel's own port, ``tunnel`` is set."""

    def __call__(
        self,
        sock: AnySocket,
        address: tuple[Any, ...],
        received: bytes = b"",
        tunnel: RelayTunnel | None = None,
    ) -> None: ...


class Front:
    """Tells protocols apart. ``tls`` and ``ssh`` are None where the relay does not speak them."""

    ssh: Ssh | None = None

    def __init__(self, pump: Pump, *, patience: float, http: Http, tls: Handshakes | None) -> None:
        self._pump = pump
        self._patience = patience
        self._http = http
        self._tls = tls
        self._waiting: dict[_Arrival, float] = {}

    def accept(
        self, sock: socket.socket, address: tuple[Any, ...], tunnel: RelayTunnel | None = None
    ) -> None:
        """Somebody has come; on a tunnel's own port, where there is no SSH, ``tunnel`` is set."""
        arrival = _Arrival(self, sock, address, tunnel)
        self._waiting[arrival] = self._pump.loop.time() + self._patience
        self._pump.poller.add_reader(sock.fileno(), arrival.readable)

    def received(self, arrival: _Arrival) -> None:
        """There is something to receive."""
        try:
            count = arrival.sock.recv_into(self._pump.area[:FIRST_READ])
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._release(arrival)
            arrival.sock.close()
            return
        data = arrival.data + bytes(self._pump.area[:count])
        ssh = self.ssh if arrival.tunnel is None else None
        if ssh is not None and len(data) < len(SSH_GREETING) and SSH_GREETING.startswith(data):
            arrival.data = data  # SEARCH begins with an S, too
            return
        self._release(arrival)
        if data[0] == TLS_HANDSHAKE:
            self._secure(arrival, data)
        elif ssh is not None and data.startswith(SSH_GREETING):
            ssh(arrival.sock, arrival.address, data)
        else:
            self._http(arrival.sock, arrival.address, data, arrival.tunnel)

    def _secure(self, arrival: _Arrival, data: bytes) -> None:
        if self._tls is None:
            self._no_tls(arrival)
        else:
            then = partial(self._http, address=arrival.address, tunnel=arrival.tunnel)
            self._tls.accept(arrival.sock, arrival.address, data, then)

    def _no_tls(self, arrival: _Arrival) -> None:
        log.info("%s speaks TLS, and there is none here", arrival.address[0])
        try:
            arrival.sock.send(TLS_ALERT)
        except OSError:
            pass  # it has gone
        arrival.sock.close()

    def _release(self, arrival: _Arrival) -> None:
        del self._waiting[arrival]
        self._pump.poller.remove_reader(arrival.sock.fileno())

    def tick(self, now: float) -> None:
        """End those who have been silent for too long; called every second."""
        if self._tls is not None:
            self._tls.tick(now)
        while self._waiting:
            arrival, deadline = next(iter(self._waiting.items()))
            if deadline > now:
                break
            self._release(arrival)
            arrival.sock.close()

    def close(self) -> None:
        """End all who have not said what they are."""
        if self._tls is not None:
            self._tls.close()
        for arrival in list(self._waiting):
            self._release(arrival)
            hard_close(arrival.sock)


class _Arrival:
    """A connection that has not said enough yet."""

    __slots__ = ("_front", "address", "data", "sock", "tunnel")

    def __init__(
        self, front: Front, sock: socket.socket, address: tuple[Any, ...], tunnel: RelayTunnel | None
    ) -> None:
        self.sock = sock
        self.address = address
        self.data = b""
        self.tunnel = tunnel
        self._front = front

    def readable(self) -> None:
        self._front.received(self)
