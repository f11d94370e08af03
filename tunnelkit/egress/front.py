"""What the clients of one egress proxy share: who may come in, the way out, clocks, counts and the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tunnelkit.egress.access import Access, OnAccess
from tunnelkit.egress.client import Client
from tunnelkit.egress.dialer import EgressDialer
from tunnelkit.egress.limits import Limits
from tunnelkit.egress.users import ClientAddresses, Quota, Users
from tunnelkit.errors import TunnelkitError
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import AnySocket, hard_close
from tunnelkit.net.stream import Opener, Outgoing, Target
from tunnelkit.net.tasks import Tasks

if TYPE_CHECKING:
    from tunnelkit.egress.udp import Association

__all__ = ["Admission", "Front", "Session"]

LINGER_TIMEOUT = 2.0
"""Seconds a client gets to see why it is refused before its connection is closed."""

CLOSE_TIMEOUT = 5.0
"""Seconds an HTTP server gets to close a connection that is given up, before it is reset."""

IDLE_LOOKS = 4
"""Looks at a connection within the idle time-out: the last one that finds nothing moved ends it."""


class Timed(Protocol):
    """Something that waits, and not for ever."""

    def timed_out(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in, and how much of the proxy each may have. None: everybody."""

    users: Users | None
    addresses: ClientAddresses | None
    quota: Quota


class Session(Join):
    """A client joined with where it wanted to go."""

    __slots__ = ("access", "quiet", "seen", "since")

    def __init__(self, front: Front, sock: AnySocket, stream: Outgoing, access: Access) -> None:
        super().__init__(front.pump, sock, stream, front.left)
        self.access = access
        self.since = front.now()
        self.seen = 0
        self.quiet = 0


class Front:
    """See the module. Without ``dialer`` there are no UDP associations."""

    def __init__(
        self,
        pump: Pump,
        opener: Opener,
        *,
        limits: Limits,
        admission: Admission,
        dialer: EgressDialer | None,
        on_access: OnAccess | None,
    ) -> None:
        self.pump = pump
        self.opener = opener
        self.limits = limits
        self.users = admission.users
        self.quota = admission.quota
        self.dialer = dialer
        self.tasks = Tasks("egress")
        self.draining = False
        self.closed = False
        self.now = pump.loop.time
        self.heads: dict[Timed, float] = {}
        self.idle: dict[Timed, float] = {}
        self.responses: dict[Timed, float] = {}
        self.lingering: dict[Timed, float] = {}
        self.closing: dict[Timed, float] = {}
        self.associations: set[Association] = set()
        self._addresses = admission.addresses
        self._on_access = on_access
        self._clients: set[Any] = set()
        self._sessions: set[Session] = set()
        self._by_address: dict[str, int] = {}
        self._next_look = 0.0

    @property
    def active(self) -> int:
        """Client connections that are open."""
        return len(self._clients) + len(self._sessions)

    # --- clients --------------------------------------------------------------------------------

    def accept(self, sock: AnySocket, address: tuple[Any, ...]) -> None:
        """A client has come."""
        host: str = address[0]
        host = host.removeprefix("::ffff:")  # IPv4 at a listener for both
        here = self._by_address.get(host, 0)
        if self._addresses is not None and host not in self._addresses:
            self._turn_away(sock, host, address[1], "client_not_allowed")
        elif self.active >= self.limits.connections or here >= self.limits.per_client:
            self._turn_away(sock, host, address[1], "limit")
        else:
            self._by_address[host] = here + 1
            self._clients.add(client := Client(self, sock, (host, address[1])))
            client.begin()

    def _turn_away(self, sock: AnySocket, host: str, port: int, code: str) -> None:
        """Without a word: to answer, one would have to wait for what the client speaks."""
        hard_close(sock)
        self.log(Access((host, port), ""), code)

    def became(self, before: Any, after: Any) -> None:
        """The connection of ``before`` is ``after``'s now."""
        self._clients.discard(before)
        self._clients.add(after)

    def gone(self, client: Any, host: str) -> None:
        """A client's connection has been closed."""
        self._clients.discard(client)
        self.forget(client)
        self._left(host)

    def _left(self, host: str) -> None:
        here = self._by_address[host] - 1
        if here:
            self._by_address[host] = here
        else:
            del self._by_address[host]

    # --- the way out ----------------------------------------------------------------------------

    def open(
        self,
        target: Target,
        opened: Callable[[Outgoing], None],
        failed: Callable[[TunnelkitError], None],
    ) -> asyncio.Task[None] | None:
        """Open a stream to ``target`` within the client's quota, and call one of the two with what came.

        Returns a task to cancel if it has to be waited for, else None. The quota is given back
        where it failed; after ``opened`` by whoever ends the stream.
        """
        who = target.user or target.client
        try:
            self.quota.take(who, self.now())
        except TunnelkitError as error:
            failed(error)
            return None
        try:
            result = self.opener.open(target)
        except TunnelkitError as error:
            self.quota.give_back(who)
            failed(error)
            return None
        if isinstance(result, Coroutine):
            return self.tasks.spawn(self._open(who, result, opened, failed), "open")
        opened(result)
        return None

    async def _open(
        self,
        who: str,
        opening: Coroutine[Any, Any, Outgoing],
        opened: Callable[[Outgoing], None],
        failed: Callable[[TunnelkitError], None],
    ) -> None:
        try:
            stream = await opening
        except TunnelkitError as error:
            self.quota.give_back(who)
            failed(error)
        except BaseException:
            self.quota.give_back(who)
            raise
        else:
            opened(stream)

    def join(
        self,
        client: Any,
        sock: AnySocket,
        stream: Outgoing,
        access: Access,
        *,
        early: bytes = b"",
        answer: bytes = b"",
    ) -> None:
        """From now on bytes pass between ``client``'s socket and ``stream``.

        ``answer`` is still to be sent to the client, ``early`` to the stream.
        """
        session = Session(self, sock, stream, access)
        self._clients.discard(client)
        self._sessions.add(session)
        stream.use(session)
        if answer:
            session.payload(answer)
            session.sent -= len(answer)  # of ours, not of the destination's
        session.start(early)
        if session.flowing:
            stream.resume()

    def left(self, join: Join, code: str | None) -> None:
        """A session has ended."""
        assert isinstance(join, Session)
        self._sessions.discard(join)
        access = join.access
        host = access.client[0]
        self._left(host)
        self.quota.give_back(access.user or host)
        access.sent, access.received = join.received, join.sent
        access.seconds = self.now() - join.since
        self.log(access, code or "ok")

    def log(self, access: Access, end: str) -> None:
        """Write ``access`` to the log: this was its ``end``."""
        if self._on_access is not None:
            access.end = end
            self._on_access(access)

    # --- time -----------------------------------------------------------------------------------

    def head_started(self, client: Timed) -> None:
        """A head is under way; the clock does not start anew with every byte of it."""
        self.idle.pop(client, None)
        self.heads.setdefault(client, self.now() + self.limits.head_timeout)

    def head_done(self, client: Timed) -> None:
        self.heads.pop(client, None)
        self.idle.pop(client, None)

    def idle_started(self, client: Timed) -> None:
        self.idle[client] = self.now() + self.limits.keep_alive

    def response_awaited(self, client: Timed) -> None:
        self.responses[client] = self.now() + self.limits.response_timeout

    def linger_started(self, client: Timed) -> None:
        self.lingering[client] = self.now() + LINGER_TIMEOUT

    def closing_started(self, origin: Timed) -> None:
        self.closing[origin] = self.now() + CLOSE_TIMEOUT

    def forget(self, client: Timed) -> None:
        """No clock runs for ``client`` any more."""
        for clock in (self.heads, self.idle, self.responses, self.lingering):
            clock.pop(client, None)

    def tick(self, now: float) -> None:
        """End waits whose time has come; called every second."""
        for clock in (self.heads, self.idle, self.responses, self.lingering, self.closing):
            while clock:
                client, deadline = next(iter(clock.items()))
                if deadline > now:
                    break
                del clock[client]
                client.timed_out()
        if now >= self._next_look:
            self._next_look = now + self.limits.idle_timeout / IDLE_LOOKS
            self._look()

    def _look(self) -> None:
        """End sessions and associations on which nothing has moved for long."""
        for session in list(self._sessions):
            moved = session.received + session.sent
            session.quiet = session.quiet + 1 if moved == session.seen else 0
            session.seen = moved
            if session.quiet > IDLE_LOOKS:
                session.cancel("idle")
        for association in list(self.associations):
            association.look(IDLE_LOOKS)

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Finish what runs, begin nothing new."""
        self.draining = True
        for client in list(self._clients):
            client.drain()

    async def close(self) -> None:
        """End all connections now."""
        self.closed = True
        await self.tasks.close()
        for client in list(self._clients):
            client.abort()
        for session in list(self._sessions):
            session.cancel("proxy_closed")
        for origin in list(self.closing):
            origin.timed_out()
