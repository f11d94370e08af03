"""The HTTP ingress: visitors by Host name, or on a tunnel's own port, as a reverse proxy.

:class:`HttpIngress` is what all visitor connections of a relay share: the way to tunnels, the pools
of kept-alive connections to services, and the clocks. A wait of one kind always lasts equally long,
so each kind is a dictionary in the order of its deadlines, and only its head is looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import Stream
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.http_visitor import HttpVisitor
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.registry import Away, Registry, RelayTunnel
from tunnelkit.relay.secured import Secured
from tunnelkit.relay.sessions import SessionStream
from tunnelkit.wire.http_head import RequestHead
from tunnelkit.wire.messages import CHANNEL_PATH, CONTROL_PATH, EGRESS_PATH, Notice, Open

if TYPE_CHECKING:
    from tunnelkit.relay.http_upstream import Upstream

__all__ = ["HttpIngress"]

REUSE_AT_ONCE = 1.0
"""A request that must not be sent twice goes out on a connection used at most this many seconds ago,
or on a fresh one: a service that closes idle connections does not do it that soon."""

LINGER_TIMEOUT = 2.0
"""Seconds a visitor gets to see the last answer before its connection is closed."""

CLOSE_TIMEOUT = 5.0
"""Seconds a service gets to close a connection that is given up, before it is reset."""


class AgentDoor(Protocol):
    """Takes over connections whose request is an agent's handshake."""

    async def agent_arrived(
        self, sock: AnySocket, address: tuple[str, int], head: RequestHead, raw: bytes, rest: bytes
    ) -> None: ...


class HttpIngress:
    """See the module. ``domain`` is the relay's own, under which tunnels have their names."""

    def __init__(  # noqa: PLR0913 - what it is made of, each by its name
        self,
        pump: Pump,
        registry: Registry,
        limits: Limits,
        *,
        domain: str,
        door: AgentDoor,
        probes: dict[Any, str],
        startup_grace: float,
        secured: Secured | None = None,
    ) -> None:
        self.pump = pump
        self.limits = limits
        self.tasks = Tasks("http ingress")
        self.draining = False
        self.secured = secured
        self.heads: dict[HttpVisitor, float] = {}
        self._idle: dict[HttpVisitor, float] = {}
        self._responses: dict[HttpVisitor, float] = {}
        self._lingering: dict[HttpVisitor, float] = {}
        self._closing: dict[Upstream, float] = {}
        self._visitors: set[HttpVisitor] = set()
        self._joins: set[Join] = set()
        self._registry = registry
        self._domain = domain
        self._suffix = f".{domain}" if domain else None
        self._door = door
        self._probes = probes
        self.now = pump.loop.time
        self._agents_back_at = self.now() + startup_grace

    @property
    def active(self) -> int:
        """Visitor connections that are open."""
        return len(self._visitors) + len(self._joins)

    def accept(
        self,
        sock: AnySocket,
        address: tuple[Any, ...],
        received: bytes = b"",
        tunnel: RelayTunnel | None = None,
    ) -> None:
        """A visitor has come, and has sent ``received``; on a tunnel's own port, ``tunnel`` is set."""
        probe = self._probes.get(address[:2], "") if self._probes else ""
        host, port = address[:2]
        visitor = HttpVisitor(self, sock, (host, port), tunnel, probe)
        self._visitors.add(visitor)
        if received:
            visitor.begin(received)

    # --- the way to tunnels ---------------------------------------------------------------------

    def is_agent(self, head: RequestHead) -> bool:
        """Whether this is an agent's handshake with the relay itself."""
        path = head.target.partition(b"?")[0].decode("latin-1")
        return path in (CONTROL_PATH, CHANNEL_PATH, EGRESS_PATH) and self._name(head) is None

    async def agent_arrived(
        self, sock: AnySocket, address: tuple[str, int], head: RequestHead, raw: bytes, rest: bytes
    ) -> None:
        await self._door.agent_arrived(sock, address, head, raw, rest)

    def _name(self, head: RequestHead) -> str | None:
        """The tunnel name that ``head`` asks for; None for the relay itself or a foreign host."""
        if self._suffix and head.host_name.endswith(self._suffix):
            return head.host_name[: -len(self._suffix)]
        return None

    async def find(self, head: RequestHead) -> RelayTunnel | Away | None:
        """The tunnel that ``head`` asks for."""
        name = self._name(head)
        return None if name is None else await self._registry.find(("http", name))

    def awaits(self, head: RequestHead) -> bool:
        """Whether the tunnel that ``head`` asks for, and nobody has, may come: the relay has just started."""
        return self._name(head) is not None and self.now() < self._agents_back_at

    # --- connections to services ----------------------------------------------------------------

    def open(
        self,
        tunnel: RelayTunnel,
        channel: SessionStream,
        upstream: Upstream,
        address: tuple[str, int],
        data: bytes,
        probe: str,
    ) -> None:
        """Open a stream with its first bytes."""
        session = tunnel.session
        ingress = ""
        if tunnel.ingress_address and upstream.visitor is not None:
            ingress = join_host_port(*upstream.visitor.local_address)
        request = Open(session.next_stream(), tunnel.number, join_host_port(*address), ingress, probe)
        session.opening(channel)
        channel.open(request, upstream, data)

    def reusable(self, tunnel: RelayTunnel, *, repeatable: bool) -> Upstream | None:
        """A kept-alive connection for the next request, if there is one that may carry it."""
        pool = tunnel.upstreams
        if pool and (repeatable or self.now() - pool[-1].last_used < REUSE_AT_ONCE):
            return pool.pop()
        return None

    def rest(self, upstream: Upstream, tunnel: RelayTunnel) -> None:
        """Keep a connection to the service for the next request, unless its channel is wanted."""
        upstream.last_used = self.now()
        tunnel.upstreams.append(upstream)
        if tunnel.session.wanting or self.draining:
            tunnel.upstreams[0].give_up()

    def forget(self, upstream: Upstream, tunnel: RelayTunnel) -> None:
        """The connection is of no more use."""
        self._closing.pop(upstream, None)
        if upstream in tunnel.upstreams:
            tunnel.upstreams.remove(upstream)

    def closing(self, upstream: Upstream) -> None:
        """The connection is being closed; the service has a while to agree."""
        self._closing[upstream] = self.now() + CLOSE_TIMEOUT

    def trim(self, tunnel: RelayTunnel) -> None:
        """Give up connections that have not carried a request for a while."""
        latest = self.now() - self.limits.upstream_idle
        while tunnel.upstreams and tunnel.upstreams[0].last_used < latest:
            tunnel.upstreams[0].give_up()

    def make_room(self) -> None:
        """Descriptors have run out: close half of the visitors' connections that carry no request."""
        for visitor in list(self._idle)[: (len(self._idle) + 1) // 2]:
            visitor.timed_out()

    def spare(self, tunnel: RelayTunnel) -> None:
        """Give up half of the connections to a service that rest; that frees their channels."""
        for upstream in tunnel.upstreams[: (len(tunnel.upstreams) + 1) // 2]:
            upstream.give_up()

    def join(
        self,
        sock: AnySocket,
        stream: Stream,
        *,
        received: bytes,
        answer: bytes,
        pending: bytearray | None,
    ) -> None:
        """Protocols were switched: bytes pass as they are from now on."""
        join = Join(self.pump, sock, stream, self._joined)
        self._joins.add(join)
        stream.use(join)
        join.payload(bytes(pending or b"") + answer)
        join.start(received)
        if join.flowing:
            stream.resume()  # the visitor may have been slow to take what came before

    def _joined(self, join: Join, code: str | None) -> None:
        self._joins.discard(join)

    def notice_host_refused(self, tunnel: RelayTunnel) -> None:
        """Tell the agent that its service does not know the public host name."""
        what = "The service refuses requests for a host it does not know: try --host-header rewrite"
        tunnel.session.send(Notice(tunnel.number, "host_refused", what))

    # --- time -----------------------------------------------------------------------------------

    def head_started(self, visitor: HttpVisitor) -> None:
        """A head is under way; the clock does not start anew with every byte of it."""
        self._idle.pop(visitor, None)
        self.heads.setdefault(visitor, self.now() + self.limits.head_timeout)

    def head_done(self, visitor: HttpVisitor) -> None:
        self.heads.pop(visitor, None)
        self._idle.pop(visitor, None)

    def idle_started(self, visitor: HttpVisitor) -> None:
        self._idle[visitor] = self.now() + self.limits.idle_timeout

    def response_awaited(self, visitor: HttpVisitor) -> None:
        self._responses[visitor] = self.now() + self.limits.response_timeout

    def response_begun(self, visitor: HttpVisitor) -> None:
        self._responses.pop(visitor, None)

    def linger_started(self, visitor: HttpVisitor) -> None:
        self._lingering[visitor] = self.now() + LINGER_TIMEOUT

    def gone(self, visitor: HttpVisitor) -> None:
        """The visitor's connection has ended, or is somebody else's now."""
        self._visitors.discard(visitor)
        for clock in (self.heads, self._idle, self._responses, self._lingering):
            clock.pop(visitor, None)

    def tick(self, now: float) -> None:
        """End waits whose time has come; called every second."""
        for clock in (self.heads, self._idle, self._responses, self._lingering):
            while clock:
                visitor, deadline = next(iter(clock.items()))
                if deadline > now:
                    break
                del clock[visitor]
                visitor.timed_out()
        while self._closing:
            upstream, deadline = next(iter(self._closing.items()))
            if deadline > now:
                break
            upstream.cancel("service_timeout")

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Finish what runs, begin nothing new."""
        self.draining = True
        for visitor in list(self._visitors):
            visitor.drain()

    async def close(self) -> None:
        """End all connections now."""
        await self.tasks.close()
        for visitor in list(self._visitors):
            visitor.abort()
        for join in list(self._joins):
            join.cancel("relay_closed")
        await asyncio.sleep(0)


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
