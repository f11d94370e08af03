"""The relay: one object that owns everything on the public side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnelkit._version import __version__
from tunnelkit.errors import AuthMissingError
from tunnelkit.net.listen import ACCEPT_PAUSE, Listener, bind
from tunnelkit.net.pump import Pump
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.auth import AnyToken, Authorizer, NoToken, TokenList
from tunnelkit.relay.balancer import Balanced
from tunnelkit.relay.door import Door
from tunnelkit.relay.egress import Egress
from tunnelkit.relay.front import Front
from tunnelkit.relay.ingress_http import HttpIngress
from tunnelkit.relay.ingress_tcp import TcpIngress
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.probe import Prober
from tunnelkit.relay.registry import MemoryRegistry, Registry
from tunnelkit.relay.secured import RelayTls, Secured
from tunnelkit.relay.sessions import Session
from tunnelkit.relay.tunnels import Public, Tunnels, Ways
from tunnelkit.transport.exit import ExitDialer, ExitService
from tunnelkit.transport.liveness import Liveness
from tunnelkit.wire.address import is_loopback, parse_listen
from tunnelkit.wire.networks import Networks

if TYPE_CHECKING:
    from tunnelkit.net.tls_server import Certificates, Handshakes
    from tunnelkit.relay.ssh_door import SshDoor

__all__ = ["Relay", "RelaySsh"]

log = logging.getLogger("tunnelkit")

TICK = 1.0
"""Seconds between looks at the clocks of what waits."""


STARTUP_GRACE = 6.0
"""Seconds after the start in which an unknown name may be a tunnel's whose agent is on its way back: for
their first minutes agents try at most 5 s apart, and a second is for handshakes and the probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySsh:
    """How a relay speaks SSH: at the addresses that it shares with HTTP, and at ``listen``."""

    host_key: str
    """The file with the host key; it is made there if there is none."""
    listen: Sequence[str] = ()
    """Addresses for SSH alone."""
    authorized_keys: str = ""
    """The file with the keys that may log in."""
    passwords: bool = True
    """Whether a token may be given as password."""


class Relay:
    """A relay in the running event loop: ``async with Relay(...) as relay``.

    ``listen``: addresses (``HOST:PORT``, port 0: any) where agents and HTTP visitors come in.
    ``domain``: the relay's own, under which HTTP tunnels get their names; empty: each HTTP tunnel
    gets a port of its own. ``tcp_ports``: the range for TCP tunnels; None: any free port.
    ``tokens``: who may open tunnels; ``anyone=True`` lets everybody, which has to be said on any but
    a loopback address. ``ssh``: whether and how SSH clients may come in; the keys it names may open
    tunnels as well as tokens. ``tls``: the certificates; without it visitors and agents come in plain,
    with it HTTP tunnels are ``https://``. ``exit_dialer``: by what agents' proxies may leave from the
    relay's own addresses, made when the relay starts; None: they may not. ``proxy_protocol_from``: addresses
    and CIDRs of load balancers, whose connections begin with a PROXY protocol header. ``splice``: False
    moves all bytes through user space.
    ``startup_grace``: seconds in which visitors of a name that no agent has claimed yet are told to try
    again soon (503), for the relay may have been restarted; after that there is no such tunnel (404).

    Raises AuthMissingError, AddressInUseError, CertificateFileError, InvalidError and what ``exit_dialer``
    raises when it starts.
    """

    def __init__(  # noqa: PLR0913 - settings, each by its name
        self,
        *,
        listen: str | Sequence[str] = "127.0.0.1:8080",
        domain: str = "",
        tcp_ports: range | None = None,
        tokens: Iterable[str] | Authorizer = (),
        anyone: bool = False,
        limits: Limits | None = None,
        ssh: RelaySsh | None = None,
        tls: RelayTls | None = None,
        exit_dialer: Callable[[], ExitDialer] | None = None,
        proxy_protocol_from: Iterable[str] = (),
        splice: bool | None = None,
        startup_grace: float = STARTUP_GRACE,
    ) -> None:
        self.limits = limits or Limits()
        self.domain = domain.strip(".").lower()
        self._listen = [parse_listen(a) for a in ([listen] if isinstance(listen, str) else listen)]
        self._tcp_ports = tcp_ports
        self._ssh = ssh
        self._tls = tls
        self.certificates: Certificates | None = None
        """What TLS clients are shown, once the relay runs."""
        self._ssh_listen = [parse_listen(address) for address in ssh.listen] if ssh is not None else []
        self._authorizer = self._authority(tokens, anyone)
        self._exit_dialer = exit_dialer
        self._balancers = Networks(proxy_protocol_from, what="the network of a load balancer")
        self._lent: ExitDialer | None = None
        if exit_dialer is not None and isinstance(self._authorizer, AnyToken):
            self._must_be_loopback()
        self._splice = splice
        self._startup_grace = startup_grace
        self._registry: Registry = MemoryRegistry()
        self._listeners: list[Listener] = []
        self._ssh_listeners: list[Listener] = []
        self._front: Front
        self._balanced: Balanced
        self._ssh_door: SshDoor | None = None
        self.ssh_fingerprint = ""
        """SHA-256 of the SSH host key once the relay runs; empty where it does not speak SSH."""
        self._tasks = Tasks("relay")
        self._pump: Pump
        self._http: HttpIngress
        self._tcp: TcpIngress
        self._door: Door
        self._tunnels: Tunnels
        self._egress: Egress
        self._room_made_at = 0.0
        self._running = False
        self._closed: asyncio.Future[None] | None = None

    def _authority(self, tokens: Iterable[str] | Authorizer, anyone: bool) -> Authorizer:
        if not isinstance(tokens, Iterable):
            return tokens
        listed = [tokens] if isinstance(tokens, str) else list(tokens)
        if listed:
            return TokenList(listed)
        if self._ssh is not None and self._ssh.authorized_keys and not anyone:
            return NoToken()
        public = [str(a) for a in (*self._listen, *self._ssh_listen) if not is_loopback(a.host)]
        if anyone or not public:
            return AnyToken()
        raise AuthMissingError(
            f"A relay on {public[0]} would let everybody in",
            hint="Set a token with --token-file or TUNNELKIT_TOKEN, or say --open if that is meant",
        )

    def _must_be_loopback(self) -> None:
        if public := [str(a) for a in (*self._listen, *self._ssh_listen) if not is_loopback(a.host)]:
            raise AuthMissingError(
                f"A relay on {public[0]} would let everybody leave from its addresses",
                hint="Set a token with --token-file or TUNNELKIT_TOKEN",
            )

    # --- lifetime -------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Listen. Returns when visitors can come."""
        loop = asyncio.get_running_loop()
        self._read_certificates()
        dialer = self._lent = None if self._exit_dialer is None else self._exit_dialer()
        self._pump = Pump(loop, splice=self._splice, stall_timeout=self.limits.stall_timeout)
        prober = Prober(self.limits.probe_timeout)
        self._balanced = Balanced(
            self._pump, self._balancers, patience=self.limits.head_timeout, probes=prober.expected
        )
        service = None if dialer is None else ExitService(self._pump, dialer, owner="egress")
        self._egress = Egress(self._pump, self._registry, self.limits, service)
        self._door = Door(self._pump, self._authorizer, self.limits, self._session_gone, self._egress)
        secured = Secured(self._tls, lambda: self._listeners[0].port) if self._tls is not None else None
        handshakes = self._handshakes()
        self._http = HttpIngress(
            self._pump,
            self._registry,
            self.limits,
            domain=self.domain,
            door=self._door,
            probes=prober.expected,
            startup_grace=self._startup_grace,
            secured=secured,
        )
        self._front = Front(
            self._pump, patience=self.limits.head_timeout, http=self._http.accept, tls=handshakes
        )
        self._tcp = TcpIngress(self._pump, probes=prober.expected)
        self._tunnels = self._door.tunnels = Tunnels(
            self._pump,
            self._registry,
            self.limits,
            self._public(secured),
            Ways(self._http, self._tcp, self._egress),
            prober,
        )
        try:
            self._open_ssh()
            self._open_listeners(loop)
        except BaseException:
            self._stop_listening()
            if dialer is not None:
                dialer.close()
            self._pump.close()
            raise
        self._running = True
        self._tasks.spawn(self._clock(), "clock")
        return self

    def _read_certificates(self) -> None:
        if self._tls is not None:
            # Only here: what reads certificates takes a while to import.
            from tunnelkit.net.tls_server import Certificates

            self.certificates = Certificates(self._tls.certificates)

    def _handshakes(self) -> Handshakes | None:
        if self.certificates is None:
            return None
        from tunnelkit.net.tls_server import Handshakes

        return Handshakes(self._pump, self.certificates, patience=self.limits.handshake_timeout)

    def _public(self, secured: Secured | None) -> Public:
        """Where visitors reach this relay."""
        first = self._listen[0]
        return Public(
            {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host),
            self.domain,
            self._tcp_ports,
            first.host,
            lambda: self._listeners[0].address,
            self._make_room,
            self._front if secured is not None else None,
            "http" if secured is None else "https",
            secured is None or secured.plain_http,
            self._balanced.before,
        )

    def _open_ssh(self) -> None:
        if self._ssh is None:
            return
        # Only here: asyncssh takes a quarter of a second to import.
        from tunnelkit.relay.ssh_door import SshDoor
        from tunnelkit.transport.ssh import SshServer
        from tunnelkit.transport.ssh_keys import AuthorizedKeys

        ssh, authorizer = self._ssh, self._authorizer
        server = SshServer(
            key_file=ssh.host_key,
            keys=AuthorizedKeys(ssh.authorized_keys) if ssh.authorized_keys else None,
            passwords=ssh.passwords and not isinstance(authorizer, AnyToken | NoToken),
            anyone=isinstance(authorizer, AnyToken),
            version=__version__,
        )
        self.ssh_fingerprint = server.fingerprint
        self._ssh_door = SshDoor(
            self._pump,
            server,
            authorizer,
            limits=self.limits,
            tunnels=self._tunnels,
            egress=self._egress,
            on_gone=self._session_gone,
        )

    def _open_listeners(self, loop: asyncio.AbstractEventLoop) -> None:
        ssh = self._front.ssh = self._ssh_door.accept if self._ssh_door is not None else None
        accept = self._balanced.before(self._front.accept)
        for address in self._listen:
            sock = bind(address.host, address.port)
            self._listeners.append(Listener(loop, sock, accept, on_exhausted=self._make_room))
        for address in self._ssh_listen:
            assert ssh is not None
            sock = bind(address.host, address.port)
            accept = self._balanced.before(ssh)
            self._ssh_listeners.append(Listener(loop, sock, accept, on_exhausted=self._make_room))
        if self._lent is not None:
            for listener in (*self._listeners, *self._ssh_listeners):
                self._lent.add_listener(*listener.address)

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
    def ssh_addresses(self) -> list[tuple[str, int]]:
        """Where the relay listens for SSH alone, ports filled in."""
        return [listener.address for listener in self._ssh_listeners]

    @property
    def url(self) -> str:
        """What an agent on this machine gives as ``relay``."""
        host, port = self._listeners[0].address[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

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
        for session in self._sessions:
            session.tick(now, liveness=liveness)
            for tunnel in session.tunnels.values():
                self._http.trim(tunnel)
        self._http.tick(now)
        self._front.tick(now)
        self._balanced.tick(now)

    def _make_room(self) -> None:
        """Descriptors have run out: part with some of what only waits to be used again.

        Sessions over SSH are one connection each and hold nothing of the kind. At most once in the pause of a
        listener, however many there are.
        """
        now = self._pump.loop.time()
        if now - self._room_made_at < ACCEPT_PAUSE:
            return
        self._room_made_at = now
        self._pump.pipes.trim()
        self._http.make_room()
        for session in list(self._door.sessions.values()):
            session.make_room()
            for tunnel in session.tunnels.values():
                self._http.spare(tunnel)

    @property
    def _sessions(self) -> list[Session]:
        over_ssh = self._ssh_door.sessions if self._ssh_door is not None else ()
        return [*self._door.sessions.values(), *over_ssh]

    def _session_gone(self, session: Session) -> None:
        for tunnel in list(session.tunnels.values()):
            if tunnel.listener is not None:
                tunnel.listener.close()
            self._tasks.spawn(self._tunnels.close(tunnel, away=True), f"close {tunnel.name}")

    # --- the end --------------------------------------------------------------------------------

    def _stop_listening(self) -> None:
        for listener in (*self._listeners, *self._ssh_listeners):
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
            if self._ssh_door is not None:
                stack.push_async_callback(self._ssh_door.close)
            stack.push_async_callback(self._egress.close)
            stack.push_async_callback(self._tcp.close)
            stack.push_async_callback(self._http.close)
            self._stop_listening()
            self._front.close()
            self._balanced.close()
            for session in self._sessions:
                for tunnel in session.tunnels.values():
                    if tunnel.listener is not None:
                        tunnel.listener.close()
            self._door.drain()
            if self._ssh_door is not None:
                self._ssh_door.drain()
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
