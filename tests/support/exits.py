"""A dialer for exits in the test's hand, and a proxy's user of what leaves by a relay."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from tests.support.chain import tcp_pair
from tests.support.scripted import PATIENCE
from tunnelkit.errors import DestinationDeniedError, TunnelkitError
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.stream import Stream


class Leg(NamedTuple):
    sock: socket.socket
    source: str


class Attempt:
    def __init__(self, dialer: Dialer, address: tuple[str, int]) -> None:
        self._dialer, self._address = dialer, address

    def now(self) -> Leg | None:
        if self._dialer.error is not None:
            raise self._dialer.error
        return self._connect() if self._dialer.at_once else None

    async def wait(self) -> Leg:
        await self._dialer.gate.wait()
        if self._dialer.late_error is not None:
            raise self._dialer.late_error
        return self._connect()

    def close(self) -> None:
        self._dialer.closed += 1

    def _connect(self) -> Leg:
        sock = socket.create_connection(self._address, PATIENCE)
        sock.setblocking(False)
        return Leg(sock, self._dialer.source)


class Dialer:
    """Dials whatever it is asked for, and takes notes."""

    def __init__(self, source: str = "192.0.2.1", *, at_once: bool = True) -> None:
        self.source = source
        self.at_once = at_once
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: TunnelkitError | None = None
        self.late_error: TunnelkitError | None = None
        self.asked: list[tuple[str, int, str, tuple[str, ...]]] = []
        self.listeners: list[tuple[str, int]] = []
        self.closed = 0

    def attempt(self, host: str, port: int, *, client: str, rules: tuple[str, ...]) -> Attempt:
        self.asked.append((host, port, client, rules))
        if "deny *" in rules:
            raise DestinationDeniedError("The token's rules say no")
        return Attempt(self, (host, port))

    def add_listener(self, host: str, port: int) -> None:
        self.listeners.append((host, port))

    def close(self) -> None: ...


def joined(pump: Pump, stream: Stream) -> socket.socket:
    """The client's end of a connection that is joined with ``stream``."""
    client, inside = tcp_pair()
    join = Join(pump, inside, stream, lambda *_: None)
    stream.use(join)
    join.start()
    stream.resume()
    return client
