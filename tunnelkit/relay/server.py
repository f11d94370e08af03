"""The relay: one object that owns everything on the public side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tunnelkit.errors import AuthMissingError
from tunnelkit.net.listen import Listener, bind
from tunnelkit.net.pump import Pump
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.auth import AnyToken, Authorizer, TokenList
from tunnelkit.relay.door import Door
from tunnelkit.relay.egress import Egress
from tunnelkit.relay.ingress_http import HttpIngress
from tunnelkit.relay.ingress_tcp import TcpIngress
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.probe import Prober
from tunnelkit.relay.registry import MemoryRegistry, Registry
from tunnelkit.relay.session import AgentSession
from tunnelkit.relay.tunnels import Public, Tunnels, Ways
from tunnelkit.transport.exit import ExitDialer, ExitService
from tunnelkit.transport.liveness import Liveness
from tunnelkit.wire.address import is_loopback, parse_listen

__all__ = ["Relay"]

log = logging.getLogger("tunnelkit")

TICK = 1.0
"""Seconds between looks at the clocks of what waits."""


class Relay:
    """A relay in the running event loop: ``async with Relay(...) as relay``.

    ``listen``: addresses (``HOST:PORT``, port 0: any) where agents and HTTP visitors come in.
    ``domain``: the relay's own, under which HTTP tunnels get their names; empty: each HTTP tunnel
    gets a port of its own. ``tcp_ports``: the range for TCP tunnels; None: any free port.
    ``tokens``: who may open tunnels; ``anyone=True`` lets everybody, which has to be said on any but
    a loopback address. ``exit_dialer``: by what agents' proxies may leave from the relay's own
    addresses, made when the relay starts; None: they may not. ``splice``: False moves all bytes
    through user space.

    Raises AuthMissingError, AddressInUseError, InvalidError and what ``exit_dialer`` raises when it
    starts.
    """

    def __init__(  # noqa: PLR0913 - configuration, by keyword only
        self,
        *,
        listen: str | Sequence[str] = "127.0.0.1:8080",
        domain: str = "",
        tcp_ports: range | None = None,
        tokens: Iterable[str] | Authorizer = (),
        anyone: bool = False,
        limits: Limits | None = None,
        exit_dialer: Callable[[], ExitDialer] | None = None,
        splice: bool | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.domain = domain.strip(".").lower()
        self._listen = [parse_listen(a) for a in ([listen] if isinstance(listen, str) else listen)]
        self._tcp_ports = tcp_ports
        self._authorizer = self._authority(tokens, anyone)
        self._exit_dialer = exit_dialer
        if exit_dialer is not None and isinstance(self._authorizer, AnyToken):
            self._must_be_loopback()
        self._splice = splice
        self._registry: Registry = MemoryRegistry()
        self._listeners: list[Listener] = []
        self._tasks = Tasks("relay")
        self._pump: Pump
        self._http: HttpIngress
        self._tcp: TcpIngress
        self._door: Door
        self._tunnels: Tunnels
        self._egress: Egress
        self._running = False
        self._closed: asyncio.Future[None] | None = None

    def _authority(self, tokens: Iterable[str] | Authorizer, anyone: bool) -> Authorizer:
        if not isinstance(tokens, Iterable):
            return tokens
        listed = [tokens] if isinstance(tokens, str) else list(tokens)
        if listed:
            return TokenList(listed)
        public = [str(a) for a in self._listen if not is_loopback(a.host)]
        if anyone or not public:
            return AnyToken()
        raise AuthMissingError(
            f"A relay on {public[0]} would let everybody in",
            hint="Set a token with --token-file or TUNNELKIT_TOKEN, or say --open if that is meant",
        )

    def _must_be_loopback(self) -> None:
        if public := [str(a) for a in self._listen if not is_loopback(a.host)]:
            raise AuthMissingError(
                f"A relay on {public[0]} would let everybody leave from its addresses",
                hint="Set a token with --token-file or TUNNELKIT_TOKEN",
            )

    # --- lifetime -------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Listen. Returns when visitors can come."""
        loop = asyncio.get_running_loop()
        dialer = None if self._exit_dialer is None else self._exit_dialer()
        self._pump = Pump(loop, splice=self._splice, stall_timeout=self.limits.stall_timeout)
        prober = Prober(self.limits.probe_timeout)
        service = None if dialer is None else ExitService(self._pump, dialer, owner="egress")
        self._egress = Egress(self._pump, self._registry, self.limits, service)
        self._door = Door(self._pump, self._authorizer, self.limits, self._session_gone, self._egress)
        self._http = HttpIngress(
            self._pump,
            self._registry,
            self.limits,
            domain=self.domain,
            door=self._door,
            probes=prober.expected,
        )
        self._tcp = TcpIngress(self._pump, probes=prober.expected)
        try:
            for address in self._listen:
                sock = bind(address.host, address.port)
                self._listeners.append(Listener(loop, sock, self._http.accept))
                if dialer is not None:
                    dialer.add_listener(*self._listeners[-1].address)
        except BaseException:
            self._stop_listening()
            if dialer is not None:
                dialer.close()
            self._pump.close()
            raise
        first = self._listen[0]
        public = Public(
            {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host),
            self.domain,
            self._tcp_ports,
            first.host,
            lambda: self._listeners[0].address,
        )
        self._tunnels = self._door.tunnels = Tunnels(
            self._pump,
            self._registry,
            self.limits,
            public,
            Ways(self._http, self._tcp, self._egress),
            prober,
        )
        self._running = True
        self._tasks.spawn(self._clock(), "clock")
        return self

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
        """Where the relay listens, ports filled in."""
        return [listener.address for listener in self._listeners]

    @property
    def url(self) -> str:
        """What an agent on this machine gives as ``relay``."""
        host, port = self._listeners[0].address[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"ws://{f'[{host}]' if ':' in host else host}:{port}"

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        liveness_every = Liveness(self.limits.ping_interval, self.limits.ping_timeout).period
        next_liveness = loop.time() + liveness_every
        while True:
            await asyncio.sleep(min(TICK, liveness_every))
            now = loop.time()
            liveness = now >= next_liveness
            if liveness:
                next_liveness = now + liveness_every
            try:
                self._tick(now, liveness=liveness)
            except Exception:
                log.exception("a look at what waits failed")  # one connection's fault is not the others'

    def _tick(self, now: float, *, liveness: bool) -> None:
        for session in list(self._door.sessions.values()):
            session.tick(now, liveness=liveness)
            for tunnel in session.tunnels.values():
                self._http.trim(tunnel)
        self._http.tick(now)

    def _session_gone(self, session: AgentSession) -> None:
        for tunnel in list(session.tunnels.values()):
            if tunnel.listener is not None:
                tunnel.listener.close()
            self._tasks.spawn(self._tunnels.close(tunnel, away=True), f"close {tunnel.name}")

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
            stack.push_async_callback(self._door.close)
            stack.push_async_callback(self._egress.close)
            stack.push_async_callback(self._tcp.close)
            stack.push_async_callback(self._http.close)
            self._stop_listening()
            for session in self._door.sessions.values():
                for tunnel in session.tunnels.values():
                    if tunnel.listener is not None:
                        tunnel.listener.close()
            self._door.drain()
            self._http.drain()
            self._egress.drain()
            await self._drained(grace)

    def _has_closed(self) -> None:
        self._pump.close()
        self._running = False
        if self._closed is not None:
            self._closed.set_result(None)

    async def _drained(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        while self._http.active or self._tcp.active or self._egress.active:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(0.05, left))
