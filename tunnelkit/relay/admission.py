"""Who may try to log in over SSH: caps on those who have not yet, and penalties for those who failed.

No input or output, and time comes in as an argument. The penalties follow sshd's PerSourcePenalties
(sshd_config(5)): each failure adds its time, nobody is refused before :data:`PENALTY_FROM` is due, and
nobody for longer than :data:`PENALTY_MAX`. Silence is not punished: the caps see to it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from tunnelkit.wire.address import ip_address

__all__ = ["Admission"]

Connection = TypeVar("Connection")

MAX_WAITING = 256
"""Connections without a login, in all. Each costs a descriptor and some 10 kB. At this number the oldest
is ended in favour of the new: a login takes a second, and one that waits for longer is the one to go."""

MAX_WAITING_EACH = 64
"""Of these from one address, so that one cannot crowd out the others."""

PENALTIES = {"auth": 5.0, "protocol": 1.0}
"""Seconds for each connection that ended so, as sshd's authfail and noauth."""

PENALTY_FROM = 15.0
"""Seconds due from which on an address is refused."""

PENALTY_MAX = 600.0
"""Seconds an address is refused at most."""

MAX_PENALISED = 65_536
"""Addresses remembered; then those that are let in soonest are forgotten. As sshd."""


class Admission(Generic[Connection]):
    """See the module."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, str] = {}  # the oldest first
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def refuses(self, address: str, now: float) -> bool:
        """Whether ``address`` has failed too often."""
        return self._until.get(_source(address), 0.0) - now >= PENALTY_FROM

    def add(self, connection: Connection, address: str) -> Connection | None:
        """A new connection without a login; which one has to go for it, if one has."""
        source = _source(address)
        victim = None
        from_there = [other for other, where in self._waiting.items() if where == source]
        if len(from_there) >= MAX_WAITING_EACH:
            victim = from_there[0]
        elif len(self._waiting) >= MAX_WAITING:
            victim = next(iter(self._waiting))
        if victim is not None:
            del self._waiting[victim]
        self._waiting[connection] = source
        return victim

    def done(self, connection: Connection) -> None:
        """It has logged in, or gone."""
        self._waiting.pop(connection, None)

    def failed(self, address: str, why: str, now: float) -> None:
        """A connection from ``address`` has ended without a login; ``why`` it did is looked up."""
        penalty = PENALTIES.get(why)
        if penalty is None:
            return
        source = _source(address)
        due = max(self._until.pop(source, 0.0), now) + penalty
        if len(self._until) >= MAX_PENALISED:
            self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) >= MAX_PENALISED:
            del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[source] = min(due, now + PENALTY_MAX)


def _source(address: str) -> str:
    """An address, or the network that one subscriber has with IPv6 (RFC 6177)."""
    ip = ip_address(address)
    if ip is None or ip.version == 4:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return ip.packed[:8].hex()
