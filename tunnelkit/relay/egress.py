"""What leaves by a relay: from its own pinned addresses, or from an agent that offers itself as an exit.

An egress proxy elsewhere opens streams towards here. Its token's rights say by what it may leave and
for where; the exit itself decides on the address that it dials.
"""

from __future__ import annotations

import hashlib
import logging

from tunnelkit.errors import (
    ExitAwayError,
    ExitNotAllowedError,
    InvalidTargetError,
    LimitError,
    NoExitError,
    RelayUnreachableError,
    TunnelkitError,
)
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream_join import StreamJoin
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.registry import Away, Registry, RelayTunnel
from tunnelkit.relay.sessions import AgentAwayError, Session, SessionStream
from tunnelkit.transport.accept import AcceptedStream, Early
from tunnelkit.transport.exit import MAX_VISITOR, MAX_WORDS, ExitService
from tunnelkit.wire.messages import Open, plain_text

__all__ = ["Egress"]

log = logging.getLogger("tunnelkit")

MAX_TRIES = 3
"""Data channels of an exit tried for one stream, where they end before they have answered."""

MAX_TARGET = 300
"""Characters of a destination: a host name has 253 at most (RFC 1035 §2.3.4)."""

ZONE = "zone:"
"""Begins the name of a zone where an exit's name could stand; no exit has a colon in its name."""


class Egress:
    """See the module. ``service`` dials from the relay's own addresses; None: it lends none."""

    def __init__(self, pump: Pump, registry: Registry, limits: Limits, service: ExitService | None) -> None:
        self.pump = pump
        self.limits = limits
        self.tasks = Tasks("egress")
        self._registry = registry
        self._service = service
        self._exits: dict[str, RelayTunnel] = {}
        self._zones: dict[str, dict[str, RelayTunnel]] = {}
        self._draining = False
        self._passages: set[_Passage] = set()

    @property
    def active(self) -> int:
        """Streams that are open, or about to be."""
        return len(self._passages) + (self._service.active if self._service is not None else 0)

    # --- exits ----------------------------------------------------------------------------------

    def add(self, tunnel: RelayTunnel) -> None:
        """An agent offers an exit."""
        self._exits[tunnel.name] = tunnel
        if tunnel.zone:
            self._zones.setdefault(tunnel.zone, {})[tunnel.name] = tunnel

    def remove(self, tunnel: RelayTunnel) -> None:
        """The exit is closed; streams that run go on."""
        if self._exits.get(tunnel.name) is not tunnel:
            return
        del self._exits[tunnel.name]
        if tunnel.zone:
            zone = self._zones[tunnel.zone]
            del zone[tunnel.name]
            if not zone:
                del self._zones[tunnel.zone]

    def _chosen(self, session: Session, request: Open) -> RelayTunnel | None:
        """The exit that ``request`` asks for, if it is there. Raises ExitNotAllowedError."""
        rights, name = session.identity.rights, request.exit

        def permitted(tunnel: RelayTunnel) -> bool:
            own = tunnel.session.identity == session.identity
            return rights.may_leave_by(tunnel.name, tunnel.zone, own=own)

        if not name.startswith(ZONE):
            tunnel = self._exits.get(name)
            if tunnel is not None and not permitted(tunnel):
                raise ExitNotAllowedError(f"This token may not leave by {name}")
            return tunnel
        zone = self._zones.get(name.removeprefix(ZONE), {})
        if not (choice := list(filter(permitted, zone.values()))):
            if zone:
                raise ExitNotAllowedError(f"This token may leave by none of {name}")
            return None
        choice = [tunnel for tunnel in choice if tunnel.session.attached] or choice
        return max(choice, key=lambda tunnel: _weight(tunnel.name, request))

    # --- streams --------------------------------------------------------------------------------

    def open(self, session: Session, channel: AcceptedStream, request: Open) -> None:
        """A proxy opens a stream on its egress channel."""
        try:
            if self._draining:
                raise RelayUnreachableError("The relay shuts down", hint="Try again later")
            if session.identity.anonymous:
                raise ExitNotAllowedError("Leaving by a relay needs a token")
            request = _checked(session, request)
            if not request.exit:
                self._leave_here(session, channel, request)
            elif (tunnel := self._chosen(session, request)) is not None:
                _Passage(self, channel, tunnel, request).begin()
            else:
                self.tasks.spawn(self._missing(channel, request), "exit that is not there")
        except TunnelkitError as error:
            channel.refuse(error.code, error.what)

    def _leave_here(self, session: Session, channel: AcceptedStream, request: Open) -> None:
        if self._service is None:
            raise NoExitError("The relay lends no address of its own")
        if not session.identity.rights.may_leave_here:
            raise ExitNotAllowedError("This token may not leave from the relay's own addresses")
        self._service.leave(channel, request, client=request.visitor, rules=request.rules)

    async def _missing(self, channel: AcceptedStream, request: Open) -> None:
        """Say whether the exit has gone away or never was."""
        early = Early(channel)
        channel.use(early)
        found = None
        if not request.exit.startswith(ZONE):
            found = await self._registry.find(("exit", request.exit))
        if early.waits:
            error = NoExitError(f"There is no exit {request.exit[:80]!r}")
            if isinstance(found, Away):
                error = ExitAwayError(f"The exit {request.exit!r} is not connected right now")
            channel.refuse(error.code, error.what)

    def begun(self, passage: _Passage) -> None:
        self._passages.add(passage)

    def over(self, passage: _Passage) -> None:
        self._passages.discard(passage)

    def drain(self) -> None:
        """Let nothing more leave; what runs goes on."""
        self._draining = True

    async def close(self) -> None:
        """End all streams now."""
        await self.tasks.close()
        for passage in list(self._passages):
            passage.cancel("relay_closed")
        if self._service is not None:
            await self._service.close("relay_closed")


def _checked(session: Session, request: Open) -> Open:
    """``request`` with what may be passed on and logged, and the rules of the session's own token."""
    target = request.target
    if not (target.isascii() and target.isprintable()) or len(target) > MAX_TARGET:
        raise InvalidTargetError("A destination that is no HOST:PORT")
    return Open(
        request.stream,
        0,
        f"{session.identity.name}/{plain_text(request.visitor, MAX_VISITOR)}",
        probe=plain_text(request.probe, MAX_VISITOR),
        target=target,
        exit=plain_text(request.exit, MAX_VISITOR),
        rules=session.identity.rights.destinations,
    )


def _weight(exit_name: str, request: Open) -> bytes:
    """Rendezvous hashing (Thaler, Ravishankar 1998): a visitor and host keep their exit while it is there."""
    host = request.target.rpartition(":")[0]
    return hashlib.blake2b(f"{exit_name}\0{request.visitor}\0{host}".encode(), digest_size=8).digest()


class _Passage:
    """One stream on its way from a proxy's channel, ``near``, to a channel of an exit, ``far``.

    The user of ``far`` until it has answered. What the proxy sends before that waits here.
    """

    def __init__(self, egress: Egress, near: AcceptedStream, tunnel: RelayTunnel, request: Open) -> None:
        self._egress = egress
        self._near = near
        self._exit = tunnel
        self._request = request
        self._early = Early(near, self._near_gone)
        self._far: SessionStream | None = None
        self._join: StreamJoin | None = None
        self._tries = 0
        self._began = egress.pump.loop.time()

    def begin(self) -> None:
        self._egress.begun(self)
        self._near.use(self._early)
        self._try()

    def _try(self) -> None:
        self._tries += 1
        channel = self._exit.session.take()
        if channel is None:
            self._egress.tasks.spawn(self._wait(), "wait for a channel")
        else:
            self._open(channel)

    async def _wait(self) -> None:
        session = self._exit.session
        try:
            channel = await session.acquire()
        except AgentAwayError:
            self._refuse(ExitAwayError(f"The exit {self._exit.name!r} is not connected right now"))
        except LimitError as error:
            self._refuse(error)
        else:
            if self._early.waits:
                self._open(channel)
            else:
                session.channel_free(channel)

    def _open(self, channel: SessionStream) -> None:
        session, asked = self._exit.session, self._request
        self._far = channel
        request = Open(
            session.next_stream(),
            self._exit.number,
            asked.visitor,
            probe=asked.probe,
            target=asked.target,
            rules=asked.rules,
        )
        session.reaching(channel)
        channel.open(request, self, opened=self._opened)

    def _opened(self, source: str) -> None:
        far = self._far
        assert far is not None
        self._near.accept_egress(plain_text(source, MAX_VISITOR))
        self._join = join = StreamJoin(self._egress.pump, self._near, far, self._done)
        far.use(join.second)
        self._early.hand_over(join.first)
        if join.first.flowing:
            self._near.resume()

    def _refuse(self, error: TunnelkitError) -> None:
        self.refused(error.code, error.what)

    # --- the far channel's user until it has answered ----------------------------------------------

    def payload(self, data: memoryview | bytes) -> None: ...
    def ended(self) -> None: ...
    def drained(self) -> None: ...

    def refused(self, code: str, what: str) -> None:
        self._egress.over(self)
        if self._early.waits:
            self._near.refuse(plain_text(code, MAX_VISITOR), plain_text(what, MAX_WORDS))

    def aborted(self, code: str) -> None:
        egress = self._egress
        quick = egress.pump.loop.time() - self._began < egress.limits.open_timeout
        if code == "unanswered" and quick and self._tries < MAX_TRIES:
            self._try()
        elif code in ("unanswered", "agent_timeout") and not quick:
            self.refused("destination_timeout", f"The exit {self._exit.name!r} did not answer in time")
        else:
            self._refuse(ExitAwayError(f"The connection to the exit {self._exit.name!r} is lost"))

    # --- the end --------------------------------------------------------------------------------

    def _near_gone(self) -> None:
        self._egress.over(self)
        if self._far is not None:
            self._far.cancel("reset")

    def _done(self, join: StreamJoin, code: str | None) -> None:
        self._egress.over(self)
        if self._request.probe:
            return
        log.info(
            "exit %s: %s to %s, %d bytes out, %d in, %s",
            *(self._exit.name, self._request.visitor, self._request.target),
            *(join.first.passed, join.second.passed, code or "ended"),
        )

    def cancel(self, code: str) -> None:
        """Abort from outside."""
        if self._join is not None:
            self._join.cancel(code)
        else:
            self._near.cancel(code)
            self._near_gone()
