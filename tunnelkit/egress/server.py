"""The egress proxy: one object that owns its listeners, its pins and all that passes through it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

from tunnelkit.egress.access import OnAccess
from tunnelkit.egress.dialer import EgressDialer
from tunnelkit.egress.front import Admission, Front
from tunnelkit.egress.limits import Limits
from tunnelkit.egress.openers import Direct, Screened, Upstream
from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.egress.users import ClientAddresses, Quota, User, UserLimits, Users
from tunnelkit.errors import AuthMissingError, InvalidError
from tunnelkit.net.listen import Listener, bind
from tunnelkit.net.outbound import ProxyUrl
from tunnelkit.net.plain import PlainStream
from tunnelkit.net.pump import Pump
from tunnelkit.net.resolve import Resolver
from tunnelkit.net.stream import Opener, Outgoing, Target
from tunnelkit.net.tasks import Tasks
from tunnelkit.wire.address import is_loopback, parse_listen

__all__ = ["EgressProxy", "Exit"]

log = logging.getLogger("tunnelkit")

TICK = 1.0
"""Seconds between looks at the clocks of what waits."""


class Exit(Protocol):
    """Where connections leave from, if not from here: a relay, or an agent of it."""

    async def start(self, pump: Pump, /) -> object:
        """Connect. Streams are used with ``pump``."""

    async def open(self, target: Target, /) -> Outgoing:
        """See :class:`~tunnelkit.net.stream.Opener`."""

    async def check(self) -> None:
        """Return if connections can leave from there now; raises as :meth:`open` does."""

    async def close(self) -> None:
        """End all of it."""


class EgressProxy:
    """A SOCKS and HTTP proxy in the running event loop: ``async with EgressProxy(...) as proxy``.

    ``listen``: addresses (``HOST:PORT``, port 0: any), each for SOCKS 4, 4a and 5 and for HTTP.
    ``source_ips``: the addresses that all connections and datagrams leave from, IPv4 and IPv6; none: the
    system chooses. ``rules``: ``allow DESTINATION`` and ``deny DESTINATION``, the first that matches
    decides (:mod:`tunnelkit.egress.policy`). ``users``, ``clients``: who may come in, by name and
    password or by address (CIDRs); without both a proxy that others can reach does not start, unless
    ``anyone`` says so. ``upstream``: ``socks5://`` or ``http://`` URL of a proxy to go on through. ``via``:
    connections leave from there instead. ``on_access`` gets a record of each connection as it ends.

    Raises :class:`InvalidError` and :class:`AuthMissingError`; :meth:`start`
    :class:`ProxyUnavailable`, where a source address is not of this machine, and :class:`AddressInUseError`.
    """

    def __init__(  # noqa: PLR0913 - the options of a proxy
        self,
        *,
        listen: str | Iterable[str] = "127.0.0.1:0",
        source_ips: str | Iterable[str] = (),
        rules: Iterable[str] = (),
        users: Iterable[User] | None = None,
        clients: Iterable[str] | None = None,
        anyone: bool = False,
        upstream: str | None = None,
        via: Exit | None = None,
        limits: Limits | None = None,
        user_limits: UserLimits | None = None,
        on_access: OnAccess | None = None,
        splice: bool | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._listen = [parse_listen(a) for a in ([listen] if isinstance(listen, str) else listen)]
        addresses = [source_ips] if isinstance(source_ips, str) else list(source_ips)
        self.pins = PinPool(addresses) if addresses else None
        self._policy = Policy.parse(rules)
        self._clients = None if clients is None else ClientAddresses(clients)
        self._check_who_may(users is not None or clients is not None, anyone)
        self._users = None if users is None else Users(users)
        self._upstream = ProxyUrl.parse(upstream, what="The upstream proxy") if upstream else None
        self._via = via
        if via is not None and (self.pins is not None or self._upstream is not None):
            raise InvalidError(
                "What leaves by a relay leaves neither from an address of this machine nor through"
                " another proxy",
                hint="Leave out --via, or --source-ip and --upstream",
            )
        self._quota = Quota(user_limits or UserLimits())
        self._on_access = on_access
        self._splice = splice
        self._listeners: list[Listener] = []
        self._streams: set[PlainStream] = set()
        self._resolver = Resolver()
        self._tasks = Tasks("egress proxy")
        self._pump: Pump
        self._front: Front
        self._running = False
        self._closed: asyncio.Future[None] | None = None
        self.dialer = EgressDialer(policy=self._policy, resolver=self._resolver, pins=self.pins)
        """Dials as the proxy does, for callers in this program."""

    def _check_who_may(self, known: bool, anyone: bool) -> None:
        if known and anyone:
            raise InvalidError(
                "The proxy is told to be open, and who may use it", hint="Leave out one of the two"
            )
        public = [str(address) for address in self._listen if not is_loopback(address.host)]
        if public and not (known or anyone):
            raise AuthMissingError(
                f"A proxy on {public[0]} would let everybody use this machine's addresses",
                hint="Say who may with --users or --client, or --open if that is meant",
            )

    # --- lifetime -------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Listen. Returns when clients can come."""
        loop = asyncio.get_running_loop()
        if self.pins is not None:
            self.pins.check()
        self._pump = Pump(loop, splice=self._splice, stall_timeout=self.limits.stall_timeout)
        try:
            straight = self._upstream is None and self._via is None
            self._front = Front(
                self._pump,
                await self._opener(),
                limits=self.limits,
                admission=Admission(self._users, self._clients, self._quota),
                dialer=self.dialer if straight else None,
                on_access=self._on_access,
            )
            for address in self._listen:
                sock = bind(address.host, address.port)
                self._listeners.append(Listener(loop, sock, self._front.accept))
                self.dialer.add_listener(address.host, self._listeners[-1].port)
        except BaseException:
            self._stop_listening()
            if self._via is not None:
                await self._via.close()
            self._has_closed()
            raise
        self._running = True
        self._tasks.spawn(self._clock(), "clock")
        return self

    async def check(self) -> None:
        """Return if connections can leave now: from the pinned addresses, or by ``via``.

        Raises ProxyUnavailable; of ``via`` NoExitError, ExitAwayError, ExitNotAllowedError, RelayError.
        """
        if self.pins is not None:
            self.pins.check()
        if self._via is not None:
            await self._via.check()

    async def _opener(self) -> Opener:
        if self._via is not None:
            await self._via.start(self._pump)
            return Screened(self._via, self._policy)
        if self._upstream is None:
            return Direct(self.dialer, self._pump, self._streams)
        port = self._upstream.port
        reach = Policy.parse([f"allow 0.0.0.0/0:{port}", f"allow [::/0]:{port}"])
        return Upstream(
            self._upstream,
            gate=EgressDialer(policy=self._policy, resolver=self._resolver),
            dialer=EgressDialer(policy=reach, resolver=self._resolver, pins=self.pins),
            pump=self._pump,
            streams=self._streams,
        )

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the proxy listens, ports filled in."""
        return [listener.address for listener in self._listeners]

    @property
    def url(self) -> str:
        """What a client on this machine takes as its HTTP proxy."""
        return f"http://{self._authority()}"

    @property
    def socks_url(self) -> str:
        """The same for SOCKS5, names to be resolved by the proxy."""
        return f"socks5h://{self._authority()}"

    def _authority(self) -> str:
        host, port = self._listeners[0].address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def active(self) -> int:
        """Client connections that are open."""
        return self._front.active if self._running else 0

    @property
    def source_ips(self) -> Sequence[str]:
        """The pinned addresses."""
        return () if self.pins is None else self.pins.addresses

    def add_source_ip(self, address: str) -> None:
        """Leave from ``address``, too; see :meth:`PinPool.add`."""
        self._pool().add(address)

    def remove_source_ip(self, address: str) -> None:
        """Leave from ``address`` no more; what left from it before goes on. See :meth:`PinPool.remove`."""
        self._pool().remove(address)

    def _pool(self) -> PinPool:
        if self.pins is None:
            raise InvalidError("The proxy has no pinned addresses", hint="Give it source_ips when it starts")
        return self.pins

    async def dial(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket to ``host:port``, as a client of the proxy would have it."""
        return (await self.dialer.dial(host, port)).sock

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK)
            try:
                self._front.tick(loop.time())
            except Exception:
                log.exception("a look at what waits failed")  # one connection's fault is not the others'

    # --- the end --------------------------------------------------------------------------------

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def close(self, *, grace: float = 0.0) -> None:
        """Stop accepting at once, let what runs finish for at most ``grace`` seconds, then end it.

        Returns as soon as nothing runs any more. Safe to call twice, and from several tasks. Who is
        cancelled meanwhile skips the grace, and leaves nothing open.
        """
        if not self._running:
            return
        if self._closed is not None:
            await asyncio.shield(self._closed)
            return
        self._closed = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as stack:  # in the end all of it is called, last one first
            stack.callback(self._has_closed)
            stack.push_async_callback(self._tasks.close)
            if self._via is not None:
                stack.push_async_callback(self._via.close)
            stack.callback(self._cancel_streams)
            stack.push_async_callback(self._front.close)
            self._stop_listening()
            self._front.drain()
            await self._drained(grace)

    def _cancel_streams(self) -> None:
        for stream in list(self._streams):
            stream.cancel("proxy_closed")

    def _has_closed(self) -> None:
        self._resolver.close()
        if self._users is not None:
            self._users.close()
        self._pump.close()
        self._running = False
        if self._closed is not None:
            self._closed.set_result(None)

    async def _drained(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        while self._front.active:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(0.05, left))
