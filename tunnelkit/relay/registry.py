"""Which tunnel has which public name and port.

The interface is asynchronous because it will not always be a dictionary: several relays may one day
share one registry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from tunnelkit.errors import NameTakenError, PortTakenError
from tunnelkit.relay.auth import Identity

if TYPE_CHECKING:
    from tunnelkit.net.listen import Listener
    from tunnelkit.relay.http_upstream import Upstream
    from tunnelkit.relay.sessions import Session

__all__ = ["Away", "Key", "MemoryRegistry", "Registry", "RelayTunnel", "owner_of", "taken"]

RESERVATION = 60.0
"""Seconds for which a name or port is kept for its identity after its tunnel has gone."""

MAX_RESERVED = 200
"""Reservations of one owner: twice the tunnels of one session. The oldest gives way, so that nobody
keeps names by the thousand that nobody uses."""

Key = tuple[Literal["http", "tcp", "exit"], str | int]
"""What can be claimed: ``("http", name)``, ``("tcp", port)`` or ``("exit", name)``."""


Owner = tuple[Identity, str]
"""An identity, and the agent where the identity alone says nothing."""


@dataclass(slots=True, eq=False)
class RelayTunnel:
    """A tunnel as the relay has it."""

    key: Key
    number: int
    """The agent's own number for it."""
    session: Session
    host_header: bytes = b""
    zone: str = ""
    """The zone of an exit, if it is in one."""
    ingress_address: bool = False
    """Whether the agent wants to know which public address a visitor came to. No two visitors share a
    connection to the service then."""
    url: str = ""
    host: str = ""
    port: int = 0
    listener: Listener | None = None
    """The listener of its own, if it has one."""
    upstreams: list[Upstream] = field(default_factory=list)
    """Connections to the service that are kept alive and carry no request, latest used last."""
    hinted: bool = False
    """Whether the agent has been told that its service refuses unknown hosts."""
    up: bool = False
    """Whether its probe has come round."""
    announced: bool = False
    """Whether its agent has been told that it is up."""
    took_over: bool = False
    """Whether it was a connected session's until now."""
    closed: bool = False

    @property
    def name(self) -> str:
        """The public name, or the port as text."""
        return str(self.key[1])


@dataclass(frozen=True, slots=True)
class Away:
    """A name whose agent is away, and may come back."""


class Registry(Protocol):
    """Where tunnels are found."""

    async def add(self, tunnel: RelayTunnel) -> RelayTunnel | None:
        """Claim ``tunnel.key``; the tunnel that had it, where a newer session takes it over.

        Raises NameTakenError or PortTakenError where it is somebody else's.
        """

    async def remove(self, tunnel: RelayTunnel, *, away: bool) -> None:
        """Release a key; it stays reserved for its identity for a while."""

    async def find(self, key: Key) -> RelayTunnel | Away | None:
        """The tunnel with that key."""

    async def available(self, key: Key, session: Session) -> bool:
        """Whether ``session`` could claim a key that no tunnel has."""


@dataclass(frozen=True, slots=True)
class _Reservation:
    owner: Owner
    until: float
    away: bool


class MemoryRegistry:
    """The tunnels of one relay process. ``clock`` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tunnels: dict[Key, RelayTunnel] = {}
        self._reserved: dict[Key, _Reservation] = {}

    async def add(self, tunnel: RelayTunnel) -> RelayTunnel | None:
        key, session = tunnel.key, tunnel.session
        holder = self._tunnels.get(key)
        if holder is not None:
            other = holder.session
            ours = owner_of(other) == owner_of(session)
            if holder.session is session or not ours or (other.agent != session.agent and other.attached):
                raise taken(key)
        elif not await self.available(key, session):
            raise taken(key)
        self._reserved.pop(key, None)
        self._tunnels[key] = tunnel
        return holder

    async def remove(self, tunnel: RelayTunnel, *, away: bool) -> None:
        if self._tunnels.get(tunnel.key) is tunnel:
            del self._tunnels[tunnel.key]
            now, owner = self._clock(), owner_of(tunnel.session)
            self._reserved = {k: r for k, r in self._reserved.items() if r.until > now}
            theirs = [key for key, reservation in self._reserved.items() if reservation.owner == owner]
            if len(theirs) >= MAX_RESERVED:
                del self._reserved[theirs[0]]
            self._reserved[tunnel.key] = _Reservation(owner, now + RESERVATION, away)

    async def find(self, key: Key) -> RelayTunnel | Away | None:
        tunnel = self._tunnels.get(key)
        if tunnel is None and (reservation := self._reservation(key)) is not None and reservation.away:
            return Away()
        return tunnel

    async def available(self, key: Key, session: Session) -> bool:
        reservation = self._reservation(key)
        return key not in self._tunnels and (reservation is None or reservation.owner == owner_of(session))

    def _reservation(self, key: Key) -> _Reservation | None:
        reservation = self._reserved.get(key)
        if reservation is not None and reservation.until <= self._clock():
            del self._reserved[key]
            return None
        return reservation


def owner_of(session: Session) -> Owner:
    """Whose tunnels the session's are."""
    return session.identity, session.agent if session.identity.anonymous else ""


def taken(key: Key) -> NameTakenError | PortTakenError:
    """The error for a key that somebody else has."""
    if key[0] == "tcp":
        return PortTakenError(f"Port {key[1]} is taken")
    return NameTakenError(f"The name {key[1]!r} is taken")
