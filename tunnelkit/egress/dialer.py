"""Connections to where a proxy's users want to go: allowed, resolved once, and from a pinned address.

::

    attempt = dialer.attempt("www.example.com", 443, client="alice")
    leg = attempt.now() or await attempt.wait()
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import NamedTuple

from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.errors import (
    DestinationDeniedError,
    DestinationRefusedError,
    DestinationTimeoutError,
    DestinationUnreachableError,
    DestinationUnresolvedError,
    FamilyNotPinnedError,
    ProxyError,
    ProxyUnavailable,
)
from tunnelkit.net.dial import dial_now, in_turn, most_telling, race
from tunnelkit.net.resolve import Address, DialError, Kind, Resolver
from tunnelkit.wire.address import Endpoint, IpAddress, ip_address, normal_host, parse_port
from tunnelkit.wire.address_class import address_class, plain

__all__ = ["Attempt", "EgressDialer", "Leg"]

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection, lookup included: most clients give up after 30 to 120."""

MAX_JUDGED = 4096
"""Numeric destinations whose verdict is kept. A verdict takes longer than a connect on this machine."""


class Leg(NamedTuple):
    """A connection to the destination."""

    sock: socket.socket
    """Connected and non-blocking."""
    source: str
    """The address it leaves from."""
    address: Address
    """Where to."""


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
        """``connect_timeout`` is in seconds."""
        self.pins = pins
        self.connect_timeout = connect_timeout
        self.resolver = resolver
        self._policies: tuple[Policy, ...] = (policy,)
        self._listeners: dict[int, list[str]] = {}
        self._judged: dict[tuple[str, int], list[Address]] = {}

    def add_listener(self, host: str, port: int) -> None:
        """Never dial ``host:port``, where this proxy itself listens; without a host: at any address."""
        self._listeners.setdefault(port, []).append(_listening(host))

    def remove_listener(self, host: str, port: int) -> None:
        """Take back :meth:`add_listener`."""
        hosts = self._listeners[port]
        hosts.remove(_listening(host))
        if not hosts:
            del self._listeners[port]

    def restricted(self, policy: Policy) -> EgressDialer:
        """The same pins, resolver and listeners, for those whom ``policy`` has to allow it, too."""
        other = EgressDialer(
            policy=policy, resolver=self.resolver, pins=self.pins, connect_timeout=self.connect_timeout
        )
        other._policies = (*self._policies, policy)
        other._listeners = self._listeners
        return other

    # --- streams --------------------------------------------------------------------------------

    def attempt(self, host: str, port: int, *, client: str = "") -> Attempt:
        """Begin a connection to ``host:port`` for ``client``, a user's name or address.

        ``host`` is as the client wrote it. Does nothing yet, and raises nothing.
        """
        return Attempt(self, host, port, client)

    async def dial(self, host: str, port: int, *, client: str = "") -> Leg:
        """A connection to ``host:port``.

        Raises :class:`InvalidTargetError` and :class:`InvalidPortError`,
        :class:`DestinationDeniedError`, :class:`DestinationUnresolvedError`,
        :class:`DestinationRefusedError`, :class:`DestinationUnreachableError`,
        :class:`DestinationTimeoutError`, :class:`FamilyNotPinnedError` and :class:`ProxyUnavailable`.
        """
        attempt = self.attempt(host, port, client=client)
        return attempt.now() or await attempt.wait()

    # --- datagrams ------------------------------------------------------------------------------

    def resolve_now(self, host: str, port: int) -> Address | None:
        """Where a datagram to ``host:port`` goes, if that is known without a wait; else :meth:`resolve`."""
        addresses = self.addresses_now(host, port)
        return None if addresses is None else addresses[0]

    async def resolve(self, host: str, port: int, *, client: str = "") -> Address:
        """Where a datagram to ``host:port`` goes: the first address that is allowed and of a pinned family.

        Raises as :meth:`dial` does.
        """
        try:
            addresses = self.addresses_now(host, port) or await self.addresses(host, port, client)
        except DialError as error:
            raise _proxy_error(error, host, port) from error
        return addresses[0]

    def bind_udp(self, family: socket.AddressFamily, *, client: str = "") -> tuple[socket.socket, str]:
        """A non-blocking datagram socket to send from, and its address; without pins that is empty.

        :class:`FamilyNotPinnedError`, :class:`ProxyUnavailable`.
        """
        if self.pins is not None:
            return self.pins.bind_udp(family, client)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        return sock, ""

    # --- judging --------------------------------------------------------------------------------

    def addresses_now(self, host: str, port: int) -> list[Address] | None:
        """The addresses of ``host:port`` that may be dialled, if they are known; else :meth:`addresses`."""
        judged = self._judged.get((host, port))
        if judged is not None and port not in self._listeners:
            return self._of_pinned_family(judged, host)
        parse_port(port)
        name = normal_host(host)
        address = ip_address(name)
        if address is not None:
            allowed = self._judge(None, [_socket_address(address, port)], port)
            while len(self._judged) >= MAX_JUDGED:
                del self._judged[next(iter(self._judged))]  # the oldest
            self._judged[host, port] = allowed
            return self._of_pinned_family(allowed, name)
        for policy in self._policies:
            if reason := policy.refuses_name(name, port):
                raise _denied(name, port, reason)
        found = self.resolver.resolve_now(name, port)
        return None if found is None else self._of_pinned_family(self._judge(name, found, port), name)

    async def addresses(self, host: str, port: int, client: str) -> list[Address]:
        """The addresses of ``host:port`` that may be dialled, where :meth:`addresses_now` has none."""
        name = normal_host(host)
        found = await self.resolver.resolve(name, port, client=client)
        return self._of_pinned_family(self._judge(name, found, port), name)

    def _judge(self, name: str | None, found: list[Address], port: int) -> list[Address]:
        """Those of ``found`` that may be dialled, at least one."""
        allowed = []
        refusals = []
        for candidate in found:
            address = ip_address(candidate.sockaddr[0])
            assert address is not None
            if plain(address) is not address:  # a name may lead to an IPv4 address written as IPv6
                address = plain(address)
                candidate = _socket_address(address, port)
            reason = self._refuses(name, address, port)
            if reason is None:
                allowed.append(candidate)
            else:
                refusals.append(reason)
        if not allowed:
            raise _denied(name or str(address), port, refusals[0])
        return list(dict.fromkeys(allowed))

    def _refuses(self, name: str | None, address: IpAddress, port: int) -> str | None:
        if port in self._listeners and self._is_listening(address, port):
            return "it is this proxy itself"
        for policy in self._policies:
            if reason := policy.refuses(name, address, port):
                return reason
        return None

    def _is_listening(self, address: IpAddress, port: int) -> bool:
        hosts = self._listeners[port]
        if str(address) in hosts or address.is_unspecified:
            return True
        return "" in hosts and _is_local(address)

    def _of_pinned_family(self, addresses: list[Address], host: str) -> list[Address]:
        if self.pins is None:
            return addresses
        pinned = [address for address in addresses if self.pins.has(address.family)]
        if not pinned:
            family = "IPv6" if addresses[0].family == socket.AF_INET6 else "IPv4"
            raise FamilyNotPinnedError(f"{host} is {family}, and no {family} address is pinned")
        return pinned


class Attempt:
    """One connection that is being made. End it with :meth:`wait` or :meth:`close`."""

    __slots__ = ("_begun", "_client", "_dialer", "_host", "_port", "_todo")

    def __init__(self, dialer: EgressDialer, host: str, port: int, client: str) -> None:
        self._dialer = dialer
        self._host = host
        self._port = port
        self._client = client
        self._todo: deque[Address] | None = None
        self._begun: dict[Address, tuple[socket.socket, str]] = {}

    def now(self) -> Leg | None:
        """The connection, where it takes no wait; None: go on with :meth:`wait`, or :meth:`close`.

        Raises as :meth:`EgressDialer.dial` does. Call it once, and first.
        """
        addresses = self._dialer.addresses_now(self._host, self._port)
        if addresses is None:
            return None
        failures = []
        todo = in_turn(addresses) if len(addresses) > 1 else deque(addresses)
        while todo:
            address = todo[0]
            try:
                sock, source, connected = self._begin(address)
            except DialError as error:
                failures.append(error)
                todo.popleft()
                continue
            if connected:
                return _leg(sock, source, address)
            self._begun[address] = sock, source
            self._todo = todo
            return None
        failure = most_telling(failures)
        raise _proxy_error(failure, self._host, self._port) from failure

    async def wait(self) -> Leg:
        """The connection; raises as :meth:`EgressDialer.dial` does. Cancelled, it leaves nothing."""
        winner = None
        try:
            async with asyncio.timeout(self._dialer.connect_timeout):
                if self._todo is None:
                    self._todo = in_turn(await self._dialer.addresses(self._host, self._port, self._client))
                winner = await race(self._todo, self._begin_or_go_on)
        except TimeoutError:
            late: Kind = "unresolved" if self._todo is None else "timeout"
            reason = f"no answer within {self._dialer.connect_timeout:g} s"
            raise _proxy_error(DialError(late, self._host, reason), self._host, self._port) from None
        except DialError as error:
            raise _proxy_error(error, self._host, self._port) from error
        finally:
            begun, self._begun = self._begun, {}
            for sock, _ in begun.values():
                if sock is not winner:
                    sock.close()
        address, source = next((address, way[1]) for address, way in begun.items() if way[0] is winner)
        return _leg(winner, source, address)

    def close(self) -> None:
        """Give up an attempt that nobody waits for. Safe to call at any time."""
        for sock, _ in self._begun.values():
            sock.close()
        self._begun.clear()

    def _begin_or_go_on(self, address: Address) -> tuple[socket.socket, bool]:
        if address in self._begun:  # by now()
            return self._begun[address][0], False
        sock, source, connected = self._begin(address)
        self._begun[address] = sock, source
        return sock, connected

    def _begin(self, address: Address) -> tuple[socket.socket, str, bool]:
        """Begin a connect from the first pinned address that is there; see :func:`dial_now`."""
        pins = self._dialer.pins
        if pins is None:
            sock, connected = dial_now(address)
            return sock, "", connected
        gone: list[DialError] = []
        for source in pins.candidates(address.family, self._client, self._host):
            try:
                sock, connected = dial_now(address, source=source)
            except DialError as error:
                if error.kind != "source":
                    raise
                pins.failed(source)
                gone.append(error)
                continue
            pins.worked(source)
            return sock, source, connected
        raise gone[0]


def _leg(sock: socket.socket, source: str, address: Address) -> Leg:
    actual = sock.getsockname()[0]
    if source and actual != source:  # which no kernel does
        sock.close()
        raise ProxyUnavailable(f"A connection that was to leave from {source} left from {actual}")
    return Leg(sock, actual, address)


def _socket_address(address: IpAddress, port: int) -> Address:
    if address.version == 4:
        return Address(socket.AF_INET, (str(address), port))
    return Address(socket.AF_INET6, (str(address), port, 0, 0))


def _listening(host: str) -> str:
    """A listener's host as its own addresses are compared with it; empty for all of them."""
    address = ip_address(host)
    return host if address is None else "" if address.is_unspecified else str(plain(address))


def _is_local(address: IpAddress) -> bool:
    """Whether ``address`` is one of this machine: then a packet there would leave from itself."""
    if address_class(address) == "loopback":
        return True
    target = _socket_address(address, 9)
    try:
        with socket.socket(target.family, socket.SOCK_DGRAM) as sock:
            sock.connect(target.sockaddr)  # chooses the source address, and sends nothing
            return ip_address(sock.getsockname()[0]) == address
    except OSError:
        return False


# --- errors -------------------------------------------------------------------------------------

_ERRORS: dict[Kind, type[ProxyError]] = {
    "refused": DestinationRefusedError,
    "timeout": DestinationTimeoutError,
    "unreachable": DestinationUnreachableError,
    "unresolved": DestinationUnresolvedError,
    "source": ProxyUnavailable,
}


def _proxy_error(error: DialError, host: str, port: int) -> ProxyError:
    return _ERRORS[error.kind](f"No connection to {Endpoint(host, port)}: {error.reason}")


def _denied(host: str, port: int, reason: str) -> DestinationDeniedError:
    return DestinationDeniedError(f"Not allowed to connect to {Endpoint(host, port)}: {reason}")
