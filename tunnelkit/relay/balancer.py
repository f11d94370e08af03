"""Connections that a load balancer passes on, and says in a PROXY protocol header from whom."""

from __future__ import annotations

import logging
import socket
from collections.abc import Container
from functools import partial
from typing import Any

from tunnelkit.net.listen import OnAccept
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.wire.networks import Networks
from tunnelkit.wire.proxy_protocol import MAX_HEADER, HeaderError, read_header

__all__ = ["Balanced"]

log = logging.getLogger("tunnelkit")


class Balanced:
    """Reads the header of each connection from ``networks``, and removes it.

    From there a header has to come: whoever left it out could say who he is in what follows. From
    elsewhere none is looked for. ``probes`` are source addresses of the relay's own probes, ``patience`` is
    in seconds.
    """

    def __init__(
        self, pump: Pump, networks: Networks, *, patience: float, probes: Container[tuple[Any, ...]]
    ) -> None:
        self._pump = pump
        self._networks = networks
        self._patience = patience
        self._probes = probes
        self._waiting: dict[_Arrival, float] = {}

    def before(self, then: OnAccept) -> OnAccept:
        """``then``, called with the visitor's own address."""
        return partial(self._accept, then) if self._networks else then

    def _accept(self, then: OnAccept, sock: socket.socket, address: tuple[Any, ...]) -> None:
        if address[0] not in self._networks or address[:2] in self._probes:
            then(sock, address)
            return
        arrival = _Arrival(self, then, sock, address)
        self._waiting[arrival] = self._pump.loop.time() + self._patience
        self._pump.poller.add_reader(sock.fileno(), arrival.readable)

    def received(self, arrival: _Arrival) -> None:
        """There is something to receive: the header is taken, and nothing that is behind it."""
        area, sock = self._pump.area, arrival.sock
        try:
            count = sock.recv_into(area[:MAX_HEADER], 0, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        data = arrival.data + bytes(area[:count])
        try:
            found = read_header(data)
        except HeaderError as error:
            log.warning("%s should send a PROXY protocol header, and sent %s", arrival.address[0], error)
            count = 0
        if not count:
            self._release(arrival)
            sock.close()
            return
        if found is None:
            # What was looked at is taken, or the socket would be ready again at once, without end.
            sock.recv_into(area[:count])
            arrival.data = data
            return
        length, visitor = found
        sock.recv_into(area[: length - len(arrival.data)])
        self._release(arrival)
        arrival.then(sock, arrival.address if visitor is None else (visitor.host, visitor.port))

    def _release(self, arrival: _Arrival) -> None:
        del self._waiting[arrival]
        self._pump.poller.remove_reader(arrival.sock.fileno())

    def tick(self, now: float) -> None:
        """End those that have sent no header for too long; called every second."""
        while self._waiting:
            arrival, deadline = next(iter(self._waiting.items()))
            if deadline > now:
                break
            self._release(arrival)
            arrival.sock.close()

    def close(self) -> None:
        """End all that have sent no header."""
        for arrival in list(self._waiting):
            self._release(arrival)
            hard_close(arrival.sock)


class _Arrival:
    """A connection whose header is not whole."""

    __slots__ = ("_balanced", "address", "data", "sock", "then")

    def __init__(
        self, balanced: Balanced, then: OnAccept, sock: socket.socket, address: tuple[Any, ...]
    ) -> None:
        self._balanced = balanced
        self.then = then
        self.sock = sock
        self.address = address
        self.data = b""

    def readable(self) -> None:
        self._balanced.received(self)
