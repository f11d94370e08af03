"""The TCP ingress: whoever connects to a tunnel's public port is joined with the service behind it."""

from __future__ import annotations

import socket
from typing import Any

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.ingress_http import join_host_port
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.relay.sessions import SessionStream
from tunnelkit.wire.messages import Open

__all__ = ["TcpIngress"]

MAX_TRIES = 3
"""Data channels tried for one visitor. Each one that fails takes up to the open time-out."""


class _Visit(Join):
    """One visitor. Until the agent has answered, and nothing was sent, another channel may do."""

    __slots__ = ("_ingress", "_request", "_tries", "_tunnel")

    stream: SessionStream

    def __init__(
        self,
        ingress: TcpIngress,
        tunnel: RelayTunnel,
        sock: socket.socket,
        channel: SessionStream,
        request: Open,
    ) -> None:
        super().__init__(ingress.pump, sock, channel, ingress.left)
        self._ingress = ingress
        self._tunnel = tunnel
        self._request = request
        self._tries = 1

    def begin(self) -> None:
        self._open(self.stream, self.read_early())
        self.start()

    def _open(self, channel: SessionStream, payload: bytes = b"") -> None:
        self.stream = channel
        self._tunnel.session.opening(channel)
        channel.open(self._request, self, payload)

    def aborted(self, code: str) -> None:
        if code == "unanswered" and not self.received and self._tries < MAX_TRIES:
            self._tries += 1
            self.hold()
            self._ingress.tasks.spawn(self._try_again(), "another channel")
        else:
            super().aborted(code)

    async def _try_again(self) -> None:
        session = self._tunnel.session
        try:
            channel = await session.acquire()
        except TunnelkitError as error:
            if self._ingress.has(self):
                super().aborted(error.code)
            return
        if self._ingress.has(self):
            self._open(channel)
            self.go_on()
        else:
            session.channel_free(channel)


class TcpIngress:
    """What the visitors of a relay's TCP ports share. ``probes``: see :mod:`tunnelkit.relay.probe`."""

    def __init__(self, pump: Pump, *, probes: dict[Any, str]) -> None:
        self.pump = pump
        self.tasks = Tasks("tcp ingress")
        self._probes = probes
        self._visits: set[Join] = set()

    @property
    def active(self) -> int:
        """Visitor connections that are open."""
        return len(self._visits) + len(self.tasks)

    def accept(self, tunnel: RelayTunnel, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """A visitor has come to ``tunnel``'s port."""
        channel = tunnel.session.take()
        if channel is None:
            self.tasks.spawn(self._wait(tunnel, sock, address), "wait for a channel")
        else:
            self._visit(tunnel, sock, address, channel)

    async def _wait(self, tunnel: RelayTunnel, sock: socket.socket, address: tuple[Any, ...]) -> None:
        channel = None
        try:
            channel = await tunnel.session.acquire()
        except TunnelkitError:
            pass  # reset below: TCP has no words for it
        finally:
            if channel is None:
                hard_close(sock)
        if channel is not None:
            self._visit(tunnel, sock, address, channel)

    def _visit(
        self,
        tunnel: RelayTunnel,
        sock: socket.socket,
        address: tuple[Any, ...],
        channel: SessionStream,
    ) -> None:
        probe = self._probes.get(address[:2], "") if self._probes else ""
        ingress = ""
        if tunnel.ingress_address:
            ingress = join_host_port(*sock.getsockname()[:2])
        request = Open(
            tunnel.session.next_stream(),
            tunnel.number,
            join_host_port(*address[:2]),
            ingress,
            probe,
        )
        visit = _Visit(self, tunnel, sock, channel, request)
        self._visits.add(visit)
        visit.begin()

    def has(self, visit: Join) -> bool:
        """Whether a visitor is still there."""
        return visit in self._visits

    def left(self, visit: Join, code: str | None) -> None:
        """A visitor's connection has ended."""
        self._visits.discard(visit)

    async def close(self) -> None:
        """End all connections now."""
        await self.tasks.close()
        for visit in list(self._visits):
            visit.cancel("relay_closed")
