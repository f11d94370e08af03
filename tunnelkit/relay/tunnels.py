"""Opening and closing tunnels: names, ports, listeners, and the probe that proves them."""

from __future__ import annotations

import logging
import random
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

from tunnelkit.errors import (
    AddressInUseError,
    ExitNotAllowedError,
    InvalidNameError,
    LimitError,
    PortNotAllowedError,
    PortTakenError,
    RefusedError,
    TunnelkitError,
)
from tunnelkit.net.listen import Listener, OnAccept, bind
from tunnelkit.net.pump import Pump
from tunnelkit.relay.egress import Egress
from tunnelkit.relay.front import Front
from tunnelkit.relay.ingress_http import HttpIngress
from tunnelkit.relay.ingress_tcp import TcpIngress
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.probe import Prober
from tunnelkit.relay.registry import Away, Key, Registry, RelayTunnel, owner_of, taken
from tunnelkit.relay.sessions import Session
from tunnelkit.wire import messages
from tunnelkit.wire.address import parse_port, tunnel_name

__all__ = ["Public", "Tunnels", "Ways"]

log = logging.getLogger("tunnelkit")

PORT_TRIES = 50
"""Ports that no tunnel has, tried before a choice of the relay's is given up: other programs have
them, or they are kept for other agents."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Public:
    """Where visitors reach a relay.

    ``domain`` is empty where every HTTP tunnel gets a port of its own on ``host``; ``ports`` is the
    range of TCP tunnels, None: any free port.
    """

    host: str
    domain: str
    ports: range | None
    bind: str
    main_address: Callable[[], tuple[str, int]]
    """Where the relay's first listener is."""
    make_room: Callable[[], None]
    """Called when a listener finds no descriptor left."""
    front: Front | None = None
    """Where visitors of a port of an HTTP tunnel's own come in; None: they speak nothing but HTTP."""
    scheme: Literal["http", "https"] = "http"
    plain: bool = True
    """Whether HTTP tunnels can be visited without TLS."""
    before: Callable[[OnAccept], OnAccept] = lambda accept: accept
    """What comes before a visitor is taken: a load balancer says who it is."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where what comes by a tunnel passes through."""

    http: HttpIngress
    tcp: TcpIngress
    egress: Egress


class Tunnels:
    """What agents ask for."""

    def __init__(
        self,
        pump: Pump,
        registry: Registry,
        limits: Limits,
        public: Public,
        ways: Ways,
        prober: Prober,
    ) -> None:
        self._pump = pump
        self._registry = registry
        self._limits = limits
        self.public = public
        self._http = ways.http
        self._tcp = ways.tcp
        self._egress = ways.egress
        self._prober = prober
        self._main_address = public.main_address

    async def find(self, key: Key) -> RelayTunnel | Away | None:
        """The tunnel with that key."""
        return await self._registry.find(key)

    async def request(self, session: Session, message: messages.Request) -> None:
        """Answer an agent's request for a tunnel."""
        tunnel = session.tunnels.get(message.id)
        if tunnel is not None and not tunnel.up:
            return  # asked again over a new connection; the answer to the first time is still to come
        try:
            tunnel = tunnel or await self._open(session, message)
        except TunnelkitError as error:
            session.send(messages.Refused(error.code, error.what, message.id, error.hint))
            return
        warnings: tuple[str, ...] = ()
        if self.public.domain and tunnel.key[0] == "http" and not await self._prober.resolves(tunnel.host):
            wildcard = f"*.{self.public.domain}"
            warnings = (f"{tunnel.host} does not resolve here: visitors need a DNS record for {wildcard}",)
        if not tunnel.closed:
            session.send(
                messages.Tunnel(
                    message.id,
                    tunnel.url,
                    tunnel.host,
                    tunnel.port,
                    _name(tunnel),
                    warnings,
                    tunnel.port if self.public.plain or tunnel.key[0] == "tcp" else 0,
                )
            )
            for code, what in self._notices(tunnel, message):
                session.send(messages.Notice(message.id, code, what))
            log.info("%s is up for %s", tunnel.url, session.identity.name)

    def _notices(self, tunnel: RelayTunnel, message: messages.Request) -> Iterator[tuple[str, str]]:
        """What a person would otherwise be surprised by."""
        if tunnel.took_over:
            tunnel.took_over = False
            yield "took_over", "It was another session's of this agent, which has been stopped"
        nameless = message.kind == "http" and not self.public.domain
        if message.name and nameless and not tunnel.announced:
            yield "name_unused", "The relay has no domain: the address is a port, and the name not part of it"
        tunnel.announced = True

    async def _open(self, session: Session, message: messages.Request) -> RelayTunnel:
        if len(session.tunnels) >= self._limits.tunnels_per_session:
            raise LimitError(f"An agent has at most {self._limits.tunnels_per_session} tunnels")
        if session.ended:
            raise RefusedError("The session is over")
        session.permits(message)
        try:
            if message.kind == "exit":
                return await self._open_exit(session, message)
            if message.kind == "http":
                tunnel = await self._open_http(session, message)
            else:
                tunnel = await self._open_tcp(session, message)
            address = tunnel.listener.address if tunnel.listener is not None else self._main_address()
            await self._prober.probe(tunnel, address)
        except BaseException:
            if (half := session.tunnels.get(message.id)) is not None:
                await self.close(half, away=False)
            raise
        tunnel.up = True
        return tunnel

    async def _open_http(self, session: Session, message: messages.Request) -> RelayTunnel:
        name = tunnel_name(message.name) if message.name else _random_name()
        if any(c in message.host_header for c in "\r\n\0 ") or len(message.host_header) > 255:
            raise InvalidNameError("The Host for the service is malformed", hint="Give a host, or host:port")
        tunnel = RelayTunnel(
            ("http", name),
            message.id,
            session,
            host_header=message.host_header.encode(),
            ingress_address=message.ingress_address,
        )
        await self._claim(tunnel)
        _, port = self._main_address()
        tunnel.host, tunnel.port = f"{name}.{self.public.domain}", port
        if not self.public.domain:
            accept = self.public.front.accept if self.public.front is not None else self._http.accept
            tunnel.listener = self._listener(bind(self.public.bind, 0), partial(accept, tunnel=tunnel))
            tunnel.host, tunnel.port = self.public.host, tunnel.listener.port
        scheme = self.public.scheme
        usual = tunnel.port == (443 if scheme == "https" else 80)
        tunnel.url = f"{scheme}://{tunnel.host if usual else f'{tunnel.host}:{tunnel.port}'}"
        return tunnel

    async def _open_exit(self, session: Session, message: messages.Request) -> RelayTunnel:
        """An exit has no public address, and nothing to probe: whoever leaves by it asks here."""
        name = tunnel_name(message.name) if message.name else _random_name()
        identity = session.identity
        if identity.anonymous:
            raise ExitNotAllowedError("Offering an exit needs a token or a key")
        if not identity.rights.may_offer(name):
            raise ExitNotAllowedError(f"This {identity.proof} may not offer an exit of the name {name!r}")
        zone = tunnel_name(message.zone) if message.zone else ""
        tunnel = RelayTunnel(("exit", name), message.id, session, zone=zone, url=f"exit:{name}")
        await self._claim(tunnel)
        self._egress.add(tunnel)
        tunnel.up = True
        return tunnel

    async def _open_tcp(self, session: Session, message: messages.Request) -> RelayTunnel:
        ports = self.public.ports
        if message.port:
            parse_port(message.port)
        if message.port and ports is not None and message.port not in ports:
            span = f"{ports.start}-{ports.stop - 1}" if ports else "none"
            raise PortNotAllowedError(f"Port {message.port} is outside the relay's range ({span})")
        if ports is not None and not ports:
            raise PortNotAllowedError(
                "The relay has no ports for TCP tunnels", hint="Start it with --tcp-ports"
            )
        candidates = [message.port] if message.port else await self._candidates(session)
        for port in candidates:
            try:
                return await self._listen(session, message, port)
            except (PortTakenError, AddressInUseError):
                if message.port:
                    raise PortTakenError(f"Port {message.port} is taken") from None
        raise PortTakenError("No port of the relay's range is free", hint="Try again later")

    async def _candidates(self, session: Session) -> list[int]:
        """Ports to choose from. None of them is a tunnel's: a choice takes nothing over, not even from
        the same agent, which may be another process on that machine."""
        ports = self.public.ports
        if ports is None:
            return [0] * PORT_TRIES
        free: list[int] = []
        start = random.randrange(len(ports))  # noqa: S311 - no secret
        for port in chain(ports[start:], ports[:start]):
            if await self._registry.available(("tcp", port), session):
                free.append(port)
                if len(free) == PORT_TRIES:
                    break
        return free

    async def _listen(self, session: Session, message: messages.Request, port: int) -> RelayTunnel:
        sock = None
        if not port:
            sock = bind(self.public.bind, 0)
            port = sock.getsockname()[1]
        tunnel = RelayTunnel(("tcp", port), message.id, session, ingress_address=message.ingress_address)
        try:
            await self._claim(tunnel)
            sock = sock or bind(self.public.bind, port)
        except BaseException:
            if sock is not None:
                sock.close()
            await self.close(tunnel, away=False)
            raise
        tunnel.listener = self._listener(sock, partial(self._tcp.accept, tunnel))
        host = self.public.domain or self.public.host
        tunnel.host, tunnel.port = host, port
        tunnel.url = f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
        return tunnel

    def _listener(self, sock: socket.socket, on_accept: OnAccept) -> Listener:
        accept = self.public.before(on_accept)
        return Listener(self._pump.loop, sock, accept, on_exhausted=self.public.make_room)

    async def _claim(self, tunnel: RelayTunnel) -> None:
        await self._ask_holder(tunnel)
        ghost = await self._registry.add(tunnel)
        tunnel.session.tunnels[tunnel.number] = tunnel
        if ghost is not None:
            tunnel.took_over = ghost.session.attached
            ghost.session.replaced(ghost.number)
            await self.close(ghost, away=False)

    async def _ask_holder(self, tunnel: RelayTunnel) -> None:
        """Raise where the same agent's older session has the key, and does not give way."""
        holder = await self._registry.find(tunnel.key)
        if isinstance(holder, RelayTunnel) and holder.session is not tunnel.session:
            older, newer = holder.session, tunnel.session
            same = owner_of(older) == owner_of(newer) and older.agent == newer.agent
            if same and not await older.gives_way():
                raise taken(tunnel.key)

    async def close(self, tunnel: RelayTunnel, *, away: bool) -> None:
        """End a tunnel; streams that run go on."""
        if tunnel.closed:
            return
        tunnel.closed = True
        if tunnel.listener is not None:
            tunnel.listener.close()
        if tunnel.key[0] == "exit":
            self._egress.remove(tunnel)
        if tunnel.session.tunnels.get(tunnel.number) is tunnel:
            del tunnel.session.tunnels[tunnel.number]
        for upstream in list(tunnel.upstreams):
            upstream.give_up()
        await self._registry.remove(tunnel, away=away)


def _name(tunnel: RelayTunnel) -> str:
    return "" if tunnel.key[0] == "tcp" else tunnel.name


def _random_name() -> str:
    """A name that nobody guesses: 50 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))
