"""Connections to where a proxy's users want to go: allowed, resolved once, and from a pinned address.

::

    attempt = dialer.attempt("www.example.com", 443, client="alice")
    leg = attempt.now() or await attempt.wait()
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.net.dial import Address
from tunnelkit.net.resolve import Resolver

__all__ = ["Attempt", "EgressDialer", "Leg"]

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection, lookup included: most clients give up after 30 to 120."""


class Leg(NamedTuple):
    """A connection to the destination."""

    sock: socket.socket
    """Connected and non-blocking."""
    source: str
    """The address it leaves from."""
    address: Address
    """Where to."""


class Attempt:
    """One connection that is being made. End it with :meth:`wait` or :meth:`close`."""

    def now(self) -> Leg | None:
        """The connection, where it takes no wait; None: go on with :meth:`wait`, or :meth:`close`.

        Raises as :meth:`EgressDialer.dial` does. Call it once, and first.
        """
        raise NotImplementedError

    async def wait(self) -> Leg:
        """The connection; raises as :meth:`EgressDialer.dial` does. Cancelled, it leaves nothing."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up an attempt that nobody waits for. Safe to call at any time."""
        raise NotImplementedError


class EgressDialer:
    """Dials for one proxy, on one event loop.

    Without ``pins`` the system chooses the source address. The machine's own listeners that are
    named with :meth:`add_listener` are never dialled, whatever the rules say.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        resolver: Resolver,
        pins: PinPool | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        raise NotImplementedError

    def add_listener(self, host: str, port: int) -> None:
        """Never dial ``host:port``, where this proxy itself listens; without a host: at any address."""
        raise NotImplementedError

    def remove_listener(self, host: str, port: int) -> None:
        """Take back :meth:`add_listener`."""
        raise NotImplementedError

    def restricted(self, policy: Policy) -> EgressDialer:
        """The same pins, resolver and listeners, for those whom ``policy`` has to allow it, too."""
        raise NotImplementedError

    def attempt(self, host: str, port: int, *, client: str = "") -> Attempt:
        """Begin a connection to ``host:port`` for ``client``, a user's name or address.

        ``host`` is as the client wrote it. Does nothing yet, and raises nothing.
        """
        raise NotImplementedError

    async def dial(self, host: str, port: int, *, client: str = "") -> Leg:
        """A connection to ``host:port``.

        Raises :class:`InvalidTargetError` (no host or port), :class:`DestinationDeniedError`,
        :class:`DestinationUnresolvedError`, :class:`DestinationRefusedError`,
        :class:`DestinationUnreachableError`, :class:`DestinationTimeoutError`,
        :class:`FamilyNotPinnedError` and :class:`ProxyUnavailable`.
        """
        raise NotImplementedError

    def resolve_now(self, host: str, port: int, *, client: str = "") -> Address | None:
        """Where a datagram to ``host:port`` goes, if that is known without a wait; else :meth:`resolve`."""
        raise NotImplementedError

    async def resolve(self, host: str, port: int, *, client: str = "") -> Address:
        """Where a datagram to ``host:port`` goes: the first address that is allowed and of a pinned family.

        Raises as :meth:`dial` does.
        """
        raise NotImplementedError

    def bind_udp(self, family: socket.AddressFamily, *, client: str = "") -> tuple[socket.socket, str]:
        """A non-blocking datagram socket to send from, and its address.

        :class:`FamilyNotPinnedError`, :class:`ProxyUnavailable`.
        """
        raise NotImplementedError
