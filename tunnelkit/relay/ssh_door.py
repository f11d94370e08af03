"""How SSH clients come in: caps and penalties before a login, then a session for each connection."""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any

from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.admission import Admission
from tunnelkit.relay.auth import Authorizer, Identity
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.relay.ssh_agent import AgentClient
from tunnelkit.relay.ssh_session import SshSession
from tunnelkit.relay.ssh_stock import StockClient, agent_of
from tunnelkit.relay.tunnels import Tunnels
from tunnelkit.transport.ssh import SshConnection, SshServer
from tunnelkit.transport.ssh_peer import Login, Terminal
from tunnelkit.wire import messages

__all__ = ["SshDoor"]

log = logging.getLogger("tunnelkit")

PARTING = 1.0
"""Seconds for a client that has been told that its session is over to close the connection itself."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 characters that nobody takes for one another."""


class SshDoor:
    """Lets SSH clients in. ``on_gone(session)`` is called when a session has ended."""

    def __init__(
        self,
        pump: Pump,
        server: SshServer,
        authorizer: Authorizer,
        *,
        limits: Limits,
        tunnels: Tunnels,
        on_gone: Callable[[SshSession], None],
    ) -> None:
        self.sessions: set[SshSession] = set()
        self.tasks = Tasks("ssh")
        self.pump = pump
        self.limits = limits
        self.public = tunnels.public
        self.tunnels = tunnels
        self.draining = False
        self._server = server
        self._authorizer = authorizer
        self._on_gone = on_gone
        self._admission: Admission[_Peer] = Admission()
        self._peers: set[_Peer] = set()

    @property
    def active(self) -> int:
        """Streams that are open."""
        return sum(session.busy for session in self.sessions)

    def accept(self, sock: socket.socket, address: tuple[Any, ...], early: bytes = b"") -> None:
        """A client has come; ``early`` is what it has said already."""
        host = str(address[0])
        if self.draining or self._admission.refuses(host, self.pump.loop.time()):
            hard_close(sock)
            return
        peer = _Peer(self, host)
        self._peers.add(peer)
        victim = self._admission.add(peer, host)
        if victim is not None:
            victim.drop()
        peer.connection = self._server.serve(self.pump, sock, early, peer)

    def gone(self, peer: _Peer, why: str) -> None:
        """A connection has ended."""
        self._admission.done(peer)
        self._peers.discard(peer)
        if peer.session is None and not peer.dropped:
            self._admission.failed(peer.address, why, self.pump.loop.time())

    async def identify(self, login: Login) -> Identity | None:
        """Who has proven to be whom; None where that is nobody, or there is no room."""
        if self.draining or len(self.sessions) >= self.limits.sessions:
            return None
        if login.fingerprint:
            return Identity(f"key-{hashlib.sha256(login.fingerprint.encode()).hexdigest()[:12]}")
        identity = await self._authorizer.authorize(login.token)
        if identity is None:
            log.warning("an SSH client was refused: %s", errors.AuthError.code)
        return identity

    def admitted(self, peer: _Peer, connection: SshConnection) -> SshSession:
        """A login is complete."""
        self._admission.done(peer)
        session = SshSession(self.pump, connection, peer.identity, self.limits, self._session_gone)
        self.sessions.add(session)
        return session

    def _session_gone(self, session: SshSession) -> None:
        self.sessions.discard(session)
        self._on_gone(session)

    # --- names ----------------------------------------------------------------------------------

    def name(self, owner: str, number: int) -> str:
        """A name that nobody guesses, and that ``owner`` gets again the next time: 50 bits."""
        digest = self._server.derive(f"{owner}\0{number}")
        return "".join(_ALPHABET[byte % 32] for byte in digest[:10])

    async def free_name(self, owner: str, agent: str, number: int) -> str:
        """:meth:`name`, or another one where that is in use; by a ghost it is not."""
        name = self.name(owner, number)
        holder = await self.tunnels.find(("http", name))
        if isinstance(holder, RelayTunnel):
            other = holder.session
            taken = other.agent != agent or not await other.gives_way()
        else:  # another connection may have been told so a moment ago
            taken = any(name in peer.names.values() for peer in self._peers)
        return self.name(secrets.token_hex(16), number) if taken else name

    def banner(self, first_name: str) -> str:
        """The rule by which tunnels get their addresses: all that ``ssh -N`` shows."""
        public = self.public
        if not public.domain:
            http = "-R 80:HOST:PORT gets a port of its own; a session (without -N) shows which"
        else:
            _, port = public.main_address()
            end = f".{public.domain}" + ("" if port == 80 else f":{port}")
            http = f"-R NAME:80:HOST:PORT is http://NAME{end}\r\n-R 80:HOST:PORT is http://{first_name}{end}"
        ports = public.ports
        span = "any port" if ports is None else f"{ports.start} to {ports.stop - 1}" if ports else ""
        tcp = f"-R PORT:HOST:PORT is that TCP port ({span}), 0 one of them" if span else "No TCP ports"
        return f"{http}\r\n{tcp}\r\nWhat cannot be had is refused.\r\n"

    # --- time, and the end ----------------------------------------------------------------------

    def drain(self) -> None:
        """Let nobody in; tell those who are there."""
        self.draining = True
        for session in list(self.sessions):
            session.draining = True
            session.send(messages.Goodbye())

    async def close(self) -> None:
        """End everything."""
        for session in list(self.sessions):
            session.end("relay_closed")
        for peer in list(self._peers):
            peer.drop()
        for peer in list(self._peers):
            if peer.connection is not None:
                await peer.connection.wait_closed()
        await self.tasks.close()


class _Peer:
    """One connection: a :class:`~tunnelkit.transport.ssh_peer.SshPeer`."""

    identity: Identity

    def __init__(self, door: SshDoor, address: str) -> None:
        self.address = address
        self.connection: SshConnection | None = None
        self.session: SshSession | None = None
        self.dropped = False
        self._door = door
        self._user = ""
        self.names: dict[int, str] = {}
        self._stock: StockClient | None = None
        self._agent: AgentClient | None = None
        self._control: Terminal | None = None

    def drop(self) -> None:
        """End the connection at once."""
        self.dropped = True
        if self.connection is not None:
            self.connection.abort()

    async def login(self, login: Login) -> str | None:
        identity = await self._door.identify(login)
        if identity is None:
            return None
        self.identity = identity
        self._user = login.user
        first = await self._name(1) if self._door.public.domain else ""
        return self._door.banner(first)

    @property
    def _agent_name(self) -> str:
        return agent_of(self.identity, self._user, self.address)

    async def _name(self, number: int) -> str:
        """The name of this connection's ``number``-th tunnel that asked for none."""
        if not self._door.public.domain:
            return ""
        if number not in self.names:
            owner = f"{self.identity.name}\0{self._agent_name}"
            self.names[number] = await self._door.free_name(owner, self._agent_name, number)
        return self.names[number]

    def established(self, connection: SshConnection) -> None:
        self.connection = connection
        self.session = session = self._door.admitted(self, connection)
        session.agent = self._agent_name
        session.client = self._stock = StockClient(
            session,
            self._door.tunnels,
            domain=self._door.public.domain,
            chosen=self._name,
            finish=self._finish,
        )
        log.info("%s of %s has logged in over SSH", self.address, self.identity.name)

    def _finish(self) -> None:
        """The session is over: the tunnels go now, the connection when the client has seen why."""
        session = self.session
        if session is None or session.draining:
            return
        session.draining = True
        for tunnel in list(session.tunnels.values()):
            self._door.tasks.spawn(self._door.tunnels.close(tunnel, away=False), f"close {tunnel.name}")
        self._door.pump.loop.call_later(PARTING, session.end)

    async def forward(self, host: str, port: int) -> int:
        if self._agent is not None or self._stock is None:
            raise errors.RefusedError("An agent asks for tunnels on its control connection")
        return await self._stock.forward(host, port)

    async def forward_cancelled(self, host: str, port: int) -> bool:
        return self._stock is not None and await self._stock.forward_cancelled(host, port)

    def session_started(self, terminal: Terminal, command: str | None) -> None:
        if self._stock is not None and self._agent is None:
            self._stock.session(terminal, command)
        else:
            terminal.exit(1)

    def subsystem(self, terminal: Terminal) -> None:
        session = self.session
        if session is None or self._agent is not None or session.tunnels:
            terminal.exit(1)
            return
        self._control = terminal
        session.client = self._agent = AgentClient(
            session, terminal, self._door.tunnels, self._door.limits, self._finish
        )

    def typed(self, terminal: Terminal, data: bytes) -> None:
        if self._agent is not None and terminal is self._control:
            self._agent.received(data)
        elif self._stock is not None:
            self._stock.typed(terminal, data)

    def session_ended(self, terminal: Terminal) -> None:
        if self._agent is not None and terminal is self._control:
            self._agent.session_ended()
        elif self._stock is not None:
            self._stock.session_ended(terminal)

    def lost(self, why: str) -> None:
        self._door.gone(self, why)
        if self._agent is not None:
            self._agent.session_ended()
        if self.session is not None:
            self.session.end()
