"""Where streams leave a tunnel for the internet: a relay's own egress, and an agent's exit.

What may leave, and from which address, the dialer decides; ``compose`` supplies it, for relay and agent
know nothing of each other nor of the egress proxy.
"""

from __future__ import annotations

import logging
import socket
from typing import Protocol

from tunnelkit.errors import InvalidTargetError, TunnelkitError
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.accept import AcceptedStream, Early, Traffic, answer_probe
from tunnelkit.wire.messages import Open, plain_text

__all__ = [
    "EXIT_CONNECT_TIMEOUT",
    "MAX_VISITOR",
    "MAX_WORDS",
    "ExitAttempt",
    "ExitDialer",
    "ExitLeg",
    "ExitService",
]

log = logging.getLogger("tunnelkit")

EXIT_CONNECT_TIMEOUT = 12.0
"""Seconds for an exit's connection, lookup included: less than whoever opened the stream waits for the
answer (15 s), so that it hears why."""

MAX_VISITOR = 128
"""Characters of what a proxy calls its user; a user name has fewer."""


MAX_WORDS = 300
"""Characters of why there is no connection that are passed on."""


class ExitLeg(Protocol):
    """A connection to the destination."""

    @property
    def sock(self) -> socket.socket: ...
    @property
    def source(self) -> str:
        """The address it leaves from."""


class ExitAttempt(Protocol):
    """One connection that is being made. Both methods raise TunnelkitError."""

    def now(self) -> ExitLeg | None:
        """The connection, where it takes no wait; None: go on with :meth:`wait`."""

    async def wait(self) -> ExitLeg: ...

    def close(self) -> None:
        """Give it up. Safe to call at any time."""


class ExitDialer(Protocol):
    """Dials for an exit: decides whether, resolves once, leaves from a pinned address."""

    def attempt(self, host: str, port: int, *, client: str, rules: tuple[str, ...]) -> ExitAttempt:
        """Begin a connection for ``client``, which may go only where ``rules`` let it, too.

        Raises InvalidError where a rule cannot be read.
        """

    def add_listener(self, host: str, port: int) -> None:
        """Never dial ``host:port``, whatever the rules say: it is this program's own."""

    def close(self) -> None:
        """Let go of what the dialer holds; nothing is dialled any more."""


class _Leaving(Join):
    """A connection to a destination."""

    __slots__ = ("client", "source", "target")

    client: str
    source: str
    target: str


class ExitService:
    """Joins streams with connections that ``dialer`` makes to wherever each wants to go."""

    def __init__(self, pump: Pump, dialer: ExitDialer, *, owner: str) -> None:
        self._dialer = dialer
        self.traffic = Traffic()
        self._pump = pump
        self._tasks = Tasks(owner)

    @property
    def active(self) -> int:
        """Connections that are open, or about to be."""
        return self.traffic.open + len(self._tasks)

    def leave(
        self, stream: AcceptedStream, request: Open, *, client: str, rules: tuple[str, ...] = ()
    ) -> None:
        """Connect ``stream`` with ``request.target`` for ``client``."""
        if request.probe:
            answer_probe(stream, request.probe.encode())
            return
        try:
            host, port = _host_port(request.target)
            attempt = self._dialer.attempt(host, port, client=client, rules=rules)
            leg = attempt.now()
        except TunnelkitError as error:
            self._failed(stream, request, client, error)
            return
        if leg is not None:
            self._join(stream, request, client, leg, None)
            return
        early = Early(stream)
        stream.use(early)
        dialling = self._tasks.spawn(self._dial(stream, request, client, attempt, early), "dial")
        dialling.add_done_callback(lambda _: attempt.close())  # it may be cancelled before it begins
        early.gone = dialling.cancel

    async def _dial(
        self, stream: AcceptedStream, request: Open, client: str, attempt: ExitAttempt, early: Early
    ) -> None:
        try:
            leg = await attempt.wait()
        except TunnelkitError as error:
            if early.waits:
                self._failed(stream, request, client, error)
            return
        if early.waits:
            self._join(stream, request, client, leg, early)
        else:
            leg.sock.close()

    def _join(
        self, stream: AcceptedStream, request: Open, client: str, leg: ExitLeg, early: Early | None
    ) -> None:
        stream.accept_egress(leg.source)
        join = _Leaving(self._pump, leg.sock, stream, self._left)
        join.client, join.source, join.target = client, leg.source, request.target
        self.traffic.begin(join)
        stream.use(join)
        join.start()
        if early is not None:
            early.hand_over(join)
        if join.flowing:
            stream.resume()

    def _left(self, join: Join, code: str | None) -> None:
        self.traffic.end(join, code)
        if isinstance(join, _Leaving):
            log.info(
                "exit: %s to %s from %s, %d bytes out, %d in, %s",
                *(join.client, join.target, join.source, join.sent, join.received, code or "ended"),
            )

    def _failed(self, stream: AcceptedStream, request: Open, client: str, error: TunnelkitError) -> None:
        self.traffic.failed += 1
        log.info("exit: %s to %s: %s", client, request.target, error)
        stream.refuse(error.code, plain_text(error.what, MAX_WORDS))

    async def close(self, code: str) -> None:
        """End all connections now."""
        self.traffic.cancel(code)
        try:
            await self._tasks.close()
        finally:
            self._dialer.close()


def _host_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise InvalidTargetError("A destination that is no HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
