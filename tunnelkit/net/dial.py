"""The one connect: every connection that leaves this program is dialled here.

:func:`dial` resolves and races the addresses (RFC 8305); :class:`LocalDialer` is the short way to a
service on this machine, whose connects are complete as soon as they are begun.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from tunnelkit.net.ready import writable
from tunnelkit.net.resolve import Address, DialError, Kind, Resolver, known
from tunnelkit.net.sockets import tune
from tunnelkit.wire.address import Endpoint, is_loopback

__all__ = [
    "Address",
    "DialError",
    "LocalDialer",
    "Resolver",
    "dial",
    "dial_now",
    "in_turn",
    "most_telling",
    "race",
]

STAGGER = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305 §5, §8)."""

MAX_ADDRESSES = 16
"""Addresses tried of one name. Whoever runs the name decides how many there are."""

# --- connecting ---------------------------------------------------------------------------------


_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)  # Linux: one system call less (socket(2))
_STREAM = socket.SOCK_STREAM | _NONBLOCK


def dial_now(address: Address, *, source: str | None = None) -> tuple[socket.socket, bool]:
    """Begin a connect; the non-blocking socket, and whether it is connected already.

    On loopback and AF_UNIX it nearly always is. If not, the socket turns writable when the connect
    has come to an end; an AF_UNIX socket does not: its listener's queue is full, close it and try
    again. Raises :class:`DialError`. ``source`` is the address to leave from.
    """
    try:
        sock = socket.socket(address.family, _STREAM)
    except OSError as error:
        raise _dial_error(address, error) from error
    try:
        if not _NONBLOCK:
            sock.setblocking(False)
        if address.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            _bind(sock, source, address)
        code = sock.connect_ex(address.sockaddr)
        if code == errno.EADDRNOTAVAIL and source is not None:
            # No port is left there for this destination, or the address has just gone.
            raise DialError("source", address, f"cannot leave from {source}: {os.strerror(code)}")
        if code == 0:
            return sock, True
        if code == errno.EINPROGRESS:
            return sock, _is_connected(sock)
        if code == errno.EAGAIN and address.family == socket.AF_UNIX:
            return sock, False
        raise OSError(code, os.strerror(code))
    except DialError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise _dial_error(address, error) from error


@functools.cache
def _ephemeral_ports() -> range:
    """The ports that connect chooses from (ip(7), ip_local_port_range)."""
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return range(1, 65536)
    return range(first, last + 1)


def _is_connected(sock: socket.socket) -> bool:
    """Whether a connect is complete; False while it is under way, OSError if it has failed."""
    try:
        peer = sock.getpeername()
    except OSError:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None
        return False
    # A connect to a free port of the ephemeral range can be given that very port to leave from, and
    # TCP then connects it to itself (RFC 9293 §3.5, simultaneous open).
    if peer[1] in _ephemeral_ports() and peer == sock.getsockname():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return True


def _bind(sock: socket.socket, source: str, address: Address) -> None:
    if sys.platform == "linux":
        # The port is chosen at connect, when its destination is known: ip(7). Else all connections
        # of one source share 28,000 ports.
        ip_bind_address_no_port = 24  # in the socket module from Python 3.12 on
        sock.setsockopt(socket.IPPROTO_IP, ip_bind_address_no_port, 1)
    try:
        sock.bind((source, 0))
    except OSError as error:
        raise DialError("source", address, f"cannot leave from {source}: {error.strerror}") from error


_KINDS: dict[int | None, Kind] = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "refused",
    errno.ENOENT: "refused",  # AF_UNIX
    errno.ETIMEDOUT: "timeout",
}


def _dial_error(target: object, error: OSError) -> DialError:
    return DialError(_KINDS.get(error.errno, "unreachable"), target, error.strerror or str(error))


_TELLING: Sequence[Kind] = ("refused", "timeout", "source", "unreachable", "unresolved")


async def dial(
    endpoint: Endpoint, *, resolver: Resolver, timeout: float, source: str | None = None
) -> socket.socket:
    """Connect to ``endpoint`` within ``timeout`` seconds, or raise :class:`DialError`.

    The socket is non-blocking and sends small messages at once. ``source`` is the address to leave
    from; only addresses of its family are tried.
    """
    late: Kind = "timeout" if endpoint.is_unix else "unresolved"
    try:
        async with asyncio.timeout(timeout):
            if endpoint.is_unix:
                return await _dial_unix(endpoint.path)
            addresses = await resolver.resolve(endpoint.host, endpoint.port)
            late = "timeout"
            begin = functools.partial(dial_now, source=source)
            return await race(in_turn(_of_family(addresses, source)), begin)
    except TimeoutError:
        raise DialError(late, endpoint, f"no answer within {timeout:g} s") from None
    except DialError as error:
        raise DialError(error.kind, endpoint, error.reason) from error


async def _dial_unix(path: str) -> socket.socket:
    pause = 0.001  # seconds; nothing tells when the listener's queue has room again
    while True:
        sock, connected = dial_now(Address(socket.AF_UNIX, path))
        if connected:
            return sock
        sock.close()
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.1)


def _of_family(addresses: list[Address], source: str | None) -> list[Address]:
    if source is None:
        return addresses
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    left = [address for address in addresses if address.family == family]
    if not left:
        raise DialError("unreachable", source, f"it has no address of the family of {source}")
    return left


def in_turn(addresses: Iterable[Address]) -> deque[Address]:
    """The addresses in the order of trying: families alternate (RFC 8305 §4)."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return deque([address for address in turns if address is not None][:MAX_ADDRESSES])


async def race(
    todo: deque[Address],
    begin: Callable[[Address], tuple[socket.socket, bool]],
) -> socket.socket:
    """The first of the addresses to answer (RFC 8305 §5). A refusal starts the next at once.

    ``todo`` are addresses, at least one; ``begin`` does with one what :func:`dial_now` does. Raises
    :class:`DialError`, of several that of the address which got furthest.
    """
    loop = asyncio.get_running_loop()
    begun: dict[socket.socket, Address] = {}
    ended: asyncio.Queue[socket.socket] = asyncio.Queue()
    failures: list[DialError] = []

    def connect_ended(sock: socket.socket) -> None:
        loop.remove_writer(sock.fileno())
        ended.put_nowait(sock)

    try:
        while todo or begun:
            if todo:
                address = todo.popleft()
                try:
                    sock, connected = begin(address)
                except DialError as error:
                    failures.append(error)
                    continue
                begun[sock] = address
                if connected:
                    ended.put_nowait(sock)
                else:
                    loop.add_writer(sock.fileno(), connect_ended, sock)
            try:
                async with asyncio.timeout(STAGGER if todo else None):
                    sock = await ended.get()
            except TimeoutError:
                continue
            address = begun.pop(sock)
            try:
                return _connected(sock)
            except OSError as error:
                failures.append(_dial_error(address, error))
    finally:
        for sock in begun:
            loop.remove_writer(sock.fileno())
            sock.close()
    raise most_telling(failures)


def most_telling(failures: Iterable[DialError]) -> DialError:
    """Of several failures, at least one, that of the address which got furthest."""
    return min(failures, key=lambda failure: _TELLING.index(failure.kind))


def _connected(sock: socket.socket) -> socket.socket:
    """The socket whose connect has ended, if that went well; else it is closed, and OSError."""
    try:
        if not _is_connected(sock):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
    except OSError:
        sock.close()
        raise
    tune(sock)
    return sock


class LocalDialer:
    """Connections to the one service at ``endpoint``, each within ``timeout`` seconds.

    ::

        sock = dialer.try_now() or await dialer.dial()
    """

    def __init__(self, endpoint: Endpoint, resolver: Resolver, timeout: float) -> None:
        self.endpoint = endpoint
        self._resolver = resolver
        self._timeout = timeout
        self._addresses = _addresses_here(endpoint)
        self._begun: deque[tuple[float, socket.socket]] = deque()

    def try_now(self) -> socket.socket | None:
        """A connected socket without a wait, or None: go on with :meth:`dial`.

        Always None for a service on another machine, or behind a name other than ``localhost``.
        Raises :class:`DialError` where nothing accepts.
        """
        failures: list[DialError] = []
        for address in self._addresses:
            try:
                sock, connected = dial_now(address)
            except DialError as error:
                failures.append(error)
                continue
            if failures:  # this one comes first from now on
                self._addresses = [address, *(a for a in self._addresses if a != address)]
            if connected:
                return sock
            if self.endpoint.is_unix:
                sock.close()
            else:
                self._begun.append((time.monotonic(), sock))
            return None
        if failures:
            raise DialError(failures[0].kind, self.endpoint, failures[0].reason) from failures[0]
        return None

    async def dial(self) -> socket.socket:
        """A connected socket; see :func:`dial`."""
        sock = self._begun_just_now()
        if sock is None:
            return await dial(self.endpoint, resolver=self._resolver, timeout=self._timeout)
        # One more connect would be seen by the service, and closed unused.
        try:
            async with asyncio.timeout(self._timeout):
                await writable(sock)
        except TimeoutError:
            sock.close()
            reason = f"no answer within {self._timeout:g} s"
            raise DialError("timeout", self.endpoint, reason) from None
        except BaseException:
            sock.close()
            raise
        try:
            return _connected(sock)
        except OSError as error:
            raise _dial_error(self.endpoint, error) from error

    def _begun_just_now(self) -> socket.socket | None:
        """A connect to go on with; older ones were given up, and the service may have, too."""
        while self._begun:
            since, sock = self._begun.popleft()
            if time.monotonic() - since < self._timeout:
                return sock
            sock.close()
        return None

    def close(self) -> None:
        """Close connects that :meth:`try_now` began and nobody went on with."""
        while self._begun:
            self._begun.popleft()[1].close()


def _addresses_here(endpoint: Endpoint) -> list[Address]:
    """The addresses of ``endpoint`` if they are known, and of this machine, beyond doubt."""
    if endpoint.is_unix:
        return [Address(socket.AF_UNIX, endpoint.path)]
    if not is_loopback(endpoint.host):
        return []
    return known(endpoint.host, endpoint.port) or []
