"""Names to addresses, in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tunnelkit.wire.address import Endpoint, ip_address, is_loopback

__all__ = ["Address", "Answer", "DialError", "Kind", "Resolver", "getaddrinfo", "known"]

MAX_LOOKUPS = 128
"""Lookups at once, each a thread: names whose servers are dead leave room for others."""

MAX_WAITING = 1024
"""Names that wait for their lookup; beyond that it fails at once."""

MAX_WAITING_OF_CLIENT = 128
"""Of these, those of one client: more than a browser asks for with a hundred tabs at its start."""

LOOKUP_TIMEOUT = 5.0
"""Seconds a lookup may take, waiting included: what resolvers give one server (resolv.conf(5))."""

CACHE_SECONDS = 5.0
"""Seconds an answer is used again. getaddrinfo(3) does not tell the records' own time to live."""

MAX_CACHED = 1024
"""Names whose answers are kept."""

Kind = Literal["refused", "timeout", "unreachable", "unresolved", "source"]


class DialError(OSError):
    """No connection. ``kind`` is for programs, ``reason`` for people.

    ``refused``: nothing accepts there. ``timeout``: no answer. ``unreachable``: no way there, or no
    permission or descriptor left here. ``unresolved``: no address for the name. ``source``: the
    source address is not one of this machine.
    """

    def __init__(self, kind: Kind, target: object, reason: str) -> None:
        super().__init__(f"No connection to {target}: {reason}")
        self.kind: Kind = kind
        self.reason = reason


class Address(NamedTuple):
    """A socket address as connect(2) takes it."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...] | str

    def __str__(self) -> str:
        if isinstance(self.sockaddr, str):
            return str(Endpoint("", 0, self.sockaddr))
        return str(Endpoint(*self.sockaddr[:2]))


Answer = list[tuple[socket.AddressFamily, tuple[Any, ...]]]
"""What there is behind a name, most preferred first, before a port is filled in."""


def getaddrinfo(host: str) -> Answer:
    """The system's own answer: hosts file, name servers and whatever else nsswitch.conf(5) names.

    Blocks. OSError where there is none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError(f"not a host name: {error}") from error
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


class _Lookup:
    """One name that is looked up, for all who ask for it meanwhile."""

    def __init__(self, host: str, done: asyncio.Future[Answer | OSError]) -> None:
        self.host = host
        self.done = done
        self.waiters = 0
        self.begun = False
        self.clients: set[str] = set()
        """Who waits for a thread for it."""


class Resolver:
    """Names to addresses, by getaddrinfo(3) in threads of its own; for one event loop.

    The loop's default executor is everybody's, and no executor will do: the interpreter waits for
    its threads at exit, and a lookup cannot be interrupted, so that a dead name server would hold up
    the end of the program. These threads are daemons.

    A client may have as many lookups under way as there are threads still free. So one that asks
    for dead names alone gets half of the threads, the next such one half of the rest, and whoever
    comes then finds one free.
    """

    def __init__(
        self,
        *,
        timeout: float = LOOKUP_TIMEOUT,
        cache: float = CACHE_SECONDS,
        lookup: Callable[[str], Answer] | None = None,
    ) -> None:
        """``timeout`` and ``cache`` are seconds: for a lookup, and to use its answer again.

        ``lookup`` is called in a thread, in place of :func:`getaddrinfo`; it raises OSError for a
        name without addresses.
        """
        self._timeout = timeout
        self._cache_seconds = cache
        self._lookup = lookup or getaddrinfo
        self._cache: dict[str, tuple[float, Answer]] = {}
        self._lookups: dict[str, _Lookup] = {}
        self._waiting: dict[str, dict[str, _Lookup]] = {}  # by client, whose turn is next first, and name
        self._running: Counter[str] = Counter()  # by client
        self._threads = 0

    def resolve_now(self, host: str, port: int) -> list[Address] | None:
        """What :meth:`resolve` would return, if that is known without a lookup."""
        addresses = known(host, port)
        if addresses is None and (answer := self._cached(host)) is not None:
            addresses = _with_port(answer, port)
        return addresses

    async def resolve(self, host: str, port: int, *, client: str = "") -> list[Address]:
        """The addresses of ``host``, most preferred first; :class:`DialError` ``unresolved`` if none.

        A numeric address and ``localhost`` (RFC 6761 §6.3) need no lookup. ``client`` is on whose
        account a lookup is.
        """
        addresses = self.resolve_now(host, port)
        if addresses is None:
            addresses = _with_port(await self._look_up(host, client), port)
        return addresses

    def _cached(self, host: str) -> Answer | None:
        expires, answer = self._cache.get(host, (0.0, None))
        return answer if answer and asyncio.get_running_loop().time() < expires else None

    async def _look_up(self, host: str, client: str) -> Answer:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = _Lookup(host, asyncio.get_running_loop().create_future())
        if not lookup.begun and client not in lookup.clients:  # it may wait for another client's turn
            self._enqueue(lookup, client)
        lookup.waiters += 1
        try:
            # Not cancelled with the one who waits, for others may wait for the same name.
            await asyncio.wait([lookup.done], timeout=self._timeout)
        finally:
            lookup.waiters -= 1
            if not (lookup.waiters or lookup.begun or lookup.done.done()):
                self._unqueue(lookup)  # nobody wants to know any more
                del self._lookups[host]
        if not lookup.done.done():
            raise DialError("unresolved", host, f"no name server answered in {self._timeout:g} s")
        answer = lookup.done.result()
        if isinstance(answer, OSError):
            reason = f"the name does not resolve ({answer.strerror or answer})"
            raise DialError("unresolved", host, reason) from answer
        return answer

    def close(self) -> None:
        """Answer those who wait in the negative. Lookups under way end by themselves."""
        self._waiting.clear()
        for lookup in self._lookups.values():
            lookup.done.set_result(OSError("the resolver is closed"))
        self._lookups.clear()

    def _enqueue(self, lookup: _Lookup, client: str) -> None:
        mine = self._waiting.setdefault(client, {})
        if len(mine) >= MAX_WAITING_OF_CLIENT or len(self._lookups) - self._threads >= MAX_WAITING:
            raise DialError("unresolved", lookup.host, "too many names wait to be resolved")
        mine[lookup.host] = lookup
        lookup.clients.add(client)
        self._lookups[lookup.host] = lookup
        self._begin_lookups()

    def _unqueue(self, lookup: _Lookup) -> None:
        for client in lookup.clients:
            queue = self._waiting[client]
            del queue[lookup.host]
            if not queue:
                del self._waiting[client]
        lookup.clients.clear()

    def _begin_lookups(self) -> None:
        while (free := MAX_LOOKUPS - self._threads) > 0:
            client = next((client for client in self._waiting if self._running[client] < free), None)
            if client is None:
                return
            lookup = next(iter(self._waiting[client].values()))
            self._waiting[client] = self._waiting.pop(client)  # behind the others
            self._unqueue(lookup)
            self._begin(lookup, client)

    def _begin(self, lookup: _Lookup, client: str) -> None:
        lookup.begun = True
        self._threads += 1
        self._running[client] += 1
        arguments = asyncio.get_running_loop(), lookup, client
        name = f"resolve {lookup.host}"
        threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()

    def _run(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup, client: str) -> None:
        """In a thread: look the name up."""
        answer: Answer | OSError
        try:
            answer = self._lookup(lookup.host)
        except OSError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - a thread that dies would keep its place for ever
            answer = OSError(f"the lookup failed: {error}")
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._looked_up, lookup, client, answer)

    def _looked_up(self, lookup: _Lookup, client: str, answer: Answer | OSError) -> None:
        self._threads -= 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._begin_lookups()
        if not lookup.done.done():
            del self._lookups[lookup.host]
            lookup.done.set_result(answer)
        if not isinstance(answer, OSError):
            self._keep(lookup.host, answer)

    def _keep(self, host: str, answer: Answer) -> None:
        self._cache.pop(host, None)
        while len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]  # the oldest
        self._cache[host] = asyncio.get_running_loop().time() + self._cache_seconds, answer


def _with_port(answer: Answer, port: int) -> list[Address]:
    return [Address(family, (ip, port, *rest)) for family, (ip, _, *rest) in answer]


def known(host: str, port: int) -> list[Address] | None:
    """The addresses of ``host`` where no lookup is needed. :class:`DialError` ``unresolved``."""
    if ip_address(host) is None:
        if not is_loopback(host):
            return None
        return [
            Address(socket.AF_INET6, ("::1", port, 0, 0)),
            Address(socket.AF_INET, ("127.0.0.1", port)),
        ]
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:  # the zone of a link-local address that is no interface here
        raise DialError("unresolved", host, error.strerror or str(error)) from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
