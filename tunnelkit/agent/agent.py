"""The agent: holds tunnels open for as long as it runs, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Literal, Self

from tunnelkit import errors
from tunnelkit.agent.backoff import CAP
from tunnelkit.agent.events import Event, Listener, ignore
from tunnelkit.agent.exit import AgentExit
from tunnelkit.agent.link import Link, Trust, make_link
from tunnelkit.agent.service import LocalService
from tunnelkit.agent.session import Session
from tunnelkit.agent.tunnel import AgentTunnel
from tunnelkit.net.dial import LocalDialer
from tunnelkit.net.pump import STALL_TIMEOUT, Pump
from tunnelkit.transport.accept import AcceptedStream
from tunnelkit.transport.exit import ExitDialer, ExitService
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.wire import messages
from tunnelkit.wire.address import Endpoint, parse_port, parse_target, tunnel_name

__all__ = ["Agent", "AgentTunnel"]

SERVICE_TIMEOUT = 4.0
"""Seconds to dial the service: less than the relay waits for the answer, so that it says why."""

TUNNEL_TIMEOUT = 20.0
"""Seconds for the relay to answer a request, its probe and a slow name server included."""

MAX_FAREWELLS = 100
"""Tunnels closed last whose closing is said again after a reconnect: as many as a relay allows at once."""


class Agent(Session):
    """An agent in the running event loop: ``async with Agent("wss://relay", token=...) as agent``.

    ``relay``: its address; ``ssh+openssh://`` is that of an SSH server of any make. ``ca``: a file with
    the authorities that sign its certificate; ``fingerprint``: SHA-256 of the certificate itself;
    ``ssh``: keys, for a relay by SSH. ``identity``: the agent's own, stable over restarts. ``on_event``
    hears what happens. Entering connects, and raises what the relay answers: RelayUnreachableError,
    NotARelayError, AuthError, CertificateError, HostKeyError, OutboundProxyError. From then on the
    agent reconnects by itself for as long as it runs.
    """

    def __init__(  # noqa: PLR0913 - keywords, which a person reads and writes by name
        self,
        relay: str,
        *,
        token: str = "",
        ca: str | None = None,
        fingerprint: str | None = None,
        ssh: SshOptions | None = None,
        identity: str | None = None,
        on_event: Listener = ignore,
        splice: bool | None = None,
    ) -> None:
        trust = Trust(token, ca, fingerprint, ssh or SshOptions())
        super().__init__(relay, trust, identity=identity, on_event=on_event)
        self.tunnels: dict[int, AgentTunnel] = {}
        self._splice = splice
        self._next = 0
        self._farewells: deque[int] = deque(maxlen=MAX_FAREWELLS)
        self._running = False
        self._closed: asyncio.Future[None] | None = None
        self._over: asyncio.Future[errors.TunnelkitError | None]

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> Self:
        """Connect to the relay."""
        loop = asyncio.get_running_loop()
        pump = Pump(loop, splice=self._splice, stall_timeout=STALL_TIMEOUT)
        try:
            self._prepare(pump)
        except BaseException:
            pump.close()
            raise
        self._over = loop.create_future()
        self._running = True
        try:
            await self._connect()
        except BaseException:
            await self.close()
            raise
        self._stay_connected()
        return self

    async def wait(self) -> None:
        """Return when the agent is closed; raises what ended its last tunnel, if something did."""
        error = await asyncio.shield(self._over)
        if error is not None:
            raise error

    # --- the session ----------------------------------------------------------------------------

    def _make_link(self) -> Link:
        return make_link(self.relay, self._trust, self._pump, self)

    def _message(self, message: messages.ControlToAgent | None) -> None:
        match message:
            case messages.Tunnel():
                self._tunnel_up(message)
            case messages.Refused():
                self._tunnel_refused(message)
            case messages.Replaced():
                self._tunnel_lost(message.id, errors.ReplacedError("A newer session took this tunnel over"))
            case messages.Notice():
                self._on_event(Event("notice", message.what, message.id, message.code))
            case _:
                pass  # from a newer relay

    def _session_begun(self, message: messages.Welcome) -> None:
        if message.resumed:
            for number in self._farewells:
                self._link.send(messages.Close(number))
        else:
            self._farewells.clear()
        for tunnel in list(self.tunnels.values()):
            if not message.resumed or not tunnel.up:
                tunnel.up = False
                self._request(tunnel)

    # --- tunnels --------------------------------------------------------------------------------

    async def open(
        self,
        kind: Literal["http", "tcp"],
        target: str | int | Endpoint,
        *,
        name: str = "",
        remote_port: int = 0,
        host_header: str = "",
        proxy_protocol: int = 0,
        timeout: float = TUNNEL_TIMEOUT,
    ) -> AgentTunnel:
        """Open a tunnel to ``target`` and return it once the relay's probe has come round.

        ``host_header``: what the service sees as Host; empty: the visitor's own; ``rewrite``: the
        target's. Raises InvalidError, RefusedError and its kind, TunnelTimeoutError.
        """
        _check(kind, proxy_protocol)
        self._link.check(kind, name=name, remote_port=remote_port, host_header=host_header)
        if self._closed is not None:
            raise errors.RelayError("The agent is closed")
        endpoint = target if isinstance(target, Endpoint) else parse_target(target)
        if remote_port:
            parse_port(remote_port)
        self._next += 1
        service = LocalService(
            self._pump,
            LocalDialer(endpoint, self._link.resolver, SERVICE_TIMEOUT),
            kind=kind,
            target=endpoint,
            proxy_protocol=proxy_protocol,
            on_event=self._on_event,
            number=self._next,
        )
        tunnel = AgentTunnel(
            self,
            self._next,
            kind,
            endpoint,
            tunnel_name(name) if name else "",
            remote_port,
            _host_of(endpoint) if host_header == "rewrite" else host_header,
            service,
            asyncio.get_running_loop().create_future(),
            chosen=not remote_port,
        )
        return await self._held(tunnel, timeout)

    async def offer(
        self, dialer: ExitDialer, *, name: str = "", zone: str = "", timeout: float = TUNNEL_TIMEOUT
    ) -> AgentTunnel:
        """Offer this machine as an exit: who may leave by the relay's exits leaves by ``dialer``.

        The exit has a ``name`` at the relay, chosen there if it is empty, and may be in a ``zone``.
        Raises NoExitError where the relay knows no exits, and what :meth:`open` raises.
        """
        if self._closed is not None:
            raise errors.RelayError("The agent is closed")
        self._link.check("exit", name=name, remote_port=0, host_header="")
        self._next += 1
        tunnel = AgentTunnel(
            self,
            self._next,
            "exit",
            "anywhere that the exit's rules allow",
            tunnel_name(name) if name else "",
            0,
            "",
            AgentExit(ExitService(self._pump, dialer, owner=f"exit {self._next}")),
            asyncio.get_running_loop().create_future(),
            zone=tunnel_name(zone) if zone else "",
        )
        return await self._held(tunnel, timeout)

    async def _held(self, tunnel: AgentTunnel, timeout: float) -> AgentTunnel:
        """``tunnel`` once the relay has answered; closed if that is a no."""
        self.tunnels[tunnel.number] = tunnel
        try:
            if self.connected:
                self._request(tunnel)
            await asyncio.wait([tunnel.answer], timeout=timeout)
            if not tunnel.answered:
                raise errors.TunnelTimeoutError(
                    f"The relay at {self.relay} did not open the tunnel within {timeout:g} s"
                )
            tunnel.answer.result()
        except BaseException:
            await self.close_tunnel(tunnel)
            raise
        return tunnel

    def _request(self, tunnel: AgentTunnel) -> None:
        if tunnel.kind == "exit" and not self._relay_has_egress:
            what = f"The relay at {self.relay} runs a version of tunnelkit without exits"
            self._tunnel_lost(tunnel.number, errors.NoExitError(what, hint="Bring the relay up to date"))
            return
        self._link.send(
            messages.Request(
                tunnel.number,
                tunnel.kind,
                tunnel.name,
                tunnel.remote_port,
                tunnel.host_header,
                ingress_address=bool(tunnel.service.proxy_protocol),
                zone=tunnel.zone,
            )
        )

    def _tunnel_up(self, message: messages.Tunnel) -> None:
        tunnel = self.tunnels.get(message.id)
        if tunnel is None:
            self._link.send(messages.Close(message.id))  # closed while it was opened
            return
        tunnel.url, tunnel.host, tunnel.port = message.url, message.host, message.port
        tunnel.warnings = message.warnings
        tunnel.plain_port = message.plain_port if message.url.startswith("https:") else message.port
        tunnel.up = True
        if tunnel.kind == "tcp" or not message.name:
            tunnel.remote_port = message.port
        else:
            tunnel.name = message.name
        self._on_event(Event("tunnel_up", message.url, tunnel.number))
        for warning in message.warnings:
            self._on_event(Event("warning", warning, tunnel.number, "name_unresolved"))
        if not tunnel.answered:
            tunnel.answer.set_result(None)

    def _tunnel_refused(self, message: messages.Refused) -> None:
        tunnel = self.tunnels.get(message.id)
        error = errors.from_code(message.code, message.what, message.hint or None)
        if tunnel is None:
            return
        if isinstance(error, errors.PortTakenError) and tunnel.chosen and tunnel.remote_port:
            tunnel.remote_port = 0  # the relay chose this port, and chooses another
            self._request(tunnel)
        elif isinstance(error, errors.TunnelTimeoutError) and tunnel.answered:
            self._tasks.spawn(self._request_later(tunnel), "request again")
        else:
            self._tunnel_lost(message.id, error)

    async def _request_later(self, tunnel: AgentTunnel) -> None:
        await asyncio.sleep(CAP)
        if tunnel.number in self.tunnels and not tunnel.up:
            self._request(tunnel)

    def _tunnel_lost(self, number: int, error: errors.TunnelkitError) -> None:
        tunnel = self.tunnels.pop(number, None)
        if tunnel is None:
            return
        tunnel.up = False
        tunnel.error = error
        if not tunnel.answered:
            tunnel.answer.set_exception(error)
            return
        self._on_event(Event("tunnel_lost", error.what, number, error.code))
        if not self.tunnels and not self._over.done():
            self._over.set_result(error)

    async def close_tunnel(self, tunnel: AgentTunnel) -> None:
        """Close one tunnel."""
        if self.tunnels.pop(tunnel.number, None) is not None:
            self._farewells.append(tunnel.number)
            self._link.send(messages.Close(tunnel.number))
        tunnel.up = False
        await tunnel.service.close()

    def stream_opened(self, stream: AcceptedStream, request: messages.Open) -> None:
        """A visitor."""
        tunnel = self.tunnels.get(request.tunnel)
        if tunnel is None or self._closed is not None:
            stream.refuse("no_tunnel", "The tunnel is closed")
        else:
            tunnel.service.visit(stream, request)

    # --- the end --------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Visitor connections that are open."""
        return sum(tunnel.traffic.open for tunnel in self.tunnels.values())

    async def close(self, *, grace: float = 0.0) -> None:
        """Take no more visitors, let what runs finish for at most ``grace`` seconds, then end it.

        Safe to call twice, and from several tasks. Who is cancelled meanwhile skips the grace, and
        leaves nothing open.
        """
        if not self._running:
            return
        if self._closed is not None:
            await asyncio.shield(self._closed)
            return
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        try:
            self._link.send(messages.Goodbye())
            deadline = loop.time() + grace
            while self.active and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110 - a count, no event
                await asyncio.sleep(min(0.05, left))
        finally:
            await self._end()

    async def _end(self) -> None:
        for tunnel in self.tunnels.values():
            if not tunnel.answered:
                tunnel.answer.set_exception(errors.RelayError("The agent is closed"))
        async with AsyncExitStack() as stack:  # all of it is called, last one first
            stack.callback(self._has_closed)
            stack.push_async_callback(self._link.close)
            stack.callback(self._disconnect)
            stack.push_async_callback(self._tasks.close)
            for tunnel in self.tunnels.values():
                stack.push_async_callback(tunnel.service.close)

    def _has_closed(self) -> None:
        self._pump.close()
        self._running = False
        if not self._over.done():
            self._over.set_result(None)
        if self._closed is not None:
            self._closed.set_result(None)


def _check(kind: str, proxy_protocol: int) -> None:
    if kind not in ("http", "tcp"):
        raise errors.InvalidError(f"{kind!r} is no kind of tunnel", hint="Give http or tcp")
    if proxy_protocol not in (0, 1, 2):
        raise errors.InvalidError("The PROXY protocol has versions 1 and 2")
    if proxy_protocol and kind == "http":
        raise errors.InvalidError(
            "The PROXY protocol names the one visitor of a connection, and HTTP has many",
            hint="The visitor's address is in X-Forwarded-For",
        )


def _host_of(target: Endpoint) -> str:
    """The Host that the service itself would expect (RFC 9110 §7.2)."""
    if target.is_unix:
        return "localhost"
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == 80 else f"{host}:{target.port}"
