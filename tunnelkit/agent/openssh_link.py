"""An SSH server of any make as the relay: remote forwards (RFC 4254 §7) instead of our messages.

The link translates: a ``request`` becomes ``tcpip-forward``, its confirmation a ``tunnel``, and each
``forwarded-tcpip`` channel a visitor. Such a server knows ports and no names, keeps no session, and
sends no probe: a tunnel is up when the forward is confirmed.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import Mapping

from tunnelkit import errors
from tunnelkit.agent.link import LinkUser, Trust
from tunnelkit.agent.ssh_link import SshLink
from tunnelkit.net.dial import DialError, dial
from tunnelkit.net.pump import Pump
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.ssh_client import SshClientStream, SshConnection
from tunnelkit.transport.ssh_login import Login
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.wire.address import Endpoint, is_loopback
from tunnelkit.wire.messages import Close, Goodbye, Hello, Message, Open, Refused, Request, Tunnel, Welcome
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["OpenSshLink"]

log = logging.getLogger("tunnelkit")

FORWARD_TIMEOUT = 15.0
"""Seconds for the server to answer a forward: less than the agent waits for the tunnel."""

REACH_TIMEOUT = 3.0
"""Seconds to look whether the port can be reached from here. Visitors of that time wait."""

GHOST_PATIENCE = 120.0
"""Seconds after a reconnect for which a port that was ours is asked for again: until an sshd with
ClientAlive has noticed that the old connection is dead. After that another port may do."""

SILENT_SERVERS = ("OpenSSH", "dropbear")
"""Servers whose sessions are a login shell, which nobody here wants. Others, of public tunnel services,
say in theirs where the tunnel is."""

DISABLED = "disabled port forwarding"
"""What OpenSSH says in a debug message before it refuses a forward that is not permitted."""


class OpenSshLink(SshLink):
    """See :class:`~tunnelkit.agent.link.Link`."""

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, trust, pump, user, environ)
        # Never the token: it is a relay's, and this server is none.
        self._login = Login(url.host, url.port, url.user or getpass.getuser(), "", trust.ssh)
        self._options: SshOptions = trust.ssh
        self._host = url.host
        self._tasks = Tasks("forwards")
        self._asked: dict[int, int] = {}  # tunnels that were up, with the port each asked for first
        self._ports: dict[int, int] = {}
        self._connected_at = 0.0
        self._own_visits: set[int] = set()  # source ports of looks at whether a port can be reached
        self._looks = 0
        self._waiting: list[tuple[SshClientStream, Open]] = []

    def __repr__(self) -> str:
        return f"<OpenSshLink to {self._dialer.url}>"

    def check(self, kind: str, *, name: str, remote_port: int, host_header: str) -> None:
        """A port is what there is."""
        if kind == "exit":
            raise errors.InvalidError(
                f"An SSH server knows no exits: {self._dialer.url}", hint="Offer it to a tunnelkit relay"
            )
        if name:
            raise errors.InvalidError(
                f"An SSH server has no names: {self._dialer.url}",
                hint="Leave out --name; --remote-port asks for a port",
            )
        if host_header:
            raise errors.InvalidError(
                f"An SSH server passes requests on as they are: {self._dialer.url}",
                hint="Leave out --host-header, or use a tunnelkit relay",
            )

    async def connect(self) -> None:
        await self._log_in()
        assert self.connection is not None
        self.connection.watch(self._options.ping_interval, self._options.ping_timeout)
        self._connected_at = asyncio.get_running_loop().time()
        self._ports.clear()

    def greeted(self, welcome: Welcome) -> None:
        """Its own greeting."""

    def send(self, message: Message) -> bool:
        connection = self.connection
        if connection is None or connection.ended:
            return False
        match message:
            case Hello():
                asyncio.get_running_loop().call_soon(self._user.received, Welcome("", ""))
            case Request():
                first = not self._ports and not len(self._tasks)
                self._tasks.spawn(self._forward(connection, message), f"forward {message.id}")
                if first and not connection.server.startswith(SILENT_SERVERS):
                    self._tasks.spawn(connection.open_shell(), "session")
            case Close(number):
                self._asked.pop(number, None)
                if port := self._ports.pop(number, 0):
                    self._tasks.spawn(connection.cancel_forward(port), f"forward {number}")
            case Goodbye():
                for port in self._ports.values():  # what runs may finish, and nobody new comes
                    self._tasks.spawn(connection.cancel_forward(port), "goodbye")
                self._ports.clear()
            case _:
                pass  # a server of another make has no use for it
        return True

    def said(self, line: str) -> None:
        """A banner, or a line of the session: public services say there where the tunnel is."""
        self._user.told(line, "")

    # --- forwards -------------------------------------------------------------------------------

    async def _forward(self, connection: SshConnection, request: Request) -> None:
        port = 0
        try:
            async with asyncio.timeout(FORWARD_TIMEOUT):
                port = await connection.forward(request.port, request.id)
        except TimeoutError:
            what = f"The SSH server at {self._login} did not answer the forward in time"
            self._user.received(Refused("timeout", what, request.id))
            return
        if connection is not self.connection:
            return  # and what comes next asks again
        if not port:
            self._user.received(self._refused(request, connection.debug))
            return
        self._ports[request.id] = port
        self._asked.setdefault(request.id, request.port)
        self._user.received(Tunnel(request.id, self._url(request.kind, port), self._host, port))
        await self._look(port)

    def _url(self, kind: str, port: int) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{kind}://{host}" if (kind, port) == ("http", 80) else f"{kind}://{host}:{port}"

    def _refused(self, request: Request, reason: str) -> Refused:
        server, port = f"The SSH server at {self._login}", request.port
        if request.id in self._asked and port:
            waited = asyncio.get_running_loop().time() - self._connected_at
            if self._asked[request.id] or waited < GHOST_PATIENCE:
                # Its own ghost, more often than not: the agent asks again in a while.
                what = f"{server} does not give port {port} back yet: the old connection may still have it"
                self._user.told(what, "")
                return Refused("timeout", what, request.id)
        error: errors.RefusedError
        if port and port < 1024 and DISABLED in reason:
            error = errors.PortNotAllowedError(
                f"{server} does not give port {port} to {self._login.user}",
                hint="Ports below 1024 are for root there; if others fail too, it forwards none",
            )
        elif port and DISABLED not in reason:
            error = errors.PortTakenError(f"{server} does not give port {port}: taken, or not permitted")
        else:
            error = errors.ForwardRefusedError(f"{server} forwards no ports to {self._login.user}")
        return Refused(error.code, error.what, request.id, error.hint)

    # --- whether anybody can come ---------------------------------------------------------------

    async def _look(self, port: int) -> None:
        """Warn of a port that cannot be reached from here, as with ``GatewayPorts no``."""
        if is_loopback(self._host) or self._dialer.proxy is not None:
            return  # the same machine reaches it either way; a proxy says nothing about visitors
        self._looks += 1
        try:
            sock = await dial(Endpoint(self._host, port), resolver=self.resolver, timeout=REACH_TIMEOUT)
        except DialError as error:
            why = "its GatewayPorts may be no, which lets only programs on that machine in"
            if error.kind != "refused":
                why = "a firewall may be in between"
            self._user.told(
                f"Port {port} of {self._host} cannot be reached from here: {why}", "port_unreachable"
            )
        else:
            self._own_visits.add(own := sock.getsockname()[1])
            asyncio.get_running_loop().call_later(FORWARD_TIMEOUT, self._own_visits.discard, own)
            sock.close()
        finally:
            self._looks -= 1
            waiting, self._waiting = self._waiting, []
            for stream, request in waiting:
                if not stream.closed:
                    self.stream_opened(stream, request)

    def stream_opened(self, stream: SshClientStream, request: Open) -> None:
        """A visitor, unless it is this link itself."""
        if request.visitor.rpartition(":")[2] in map(str, self._own_visits):
            stream.refuse("no_tunnel", "A look whether the port can be reached")
        elif self._looks:
            self._waiting.append((stream, request))
        else:
            self._user.stream_opened(stream, request)

    async def close(self) -> None:
        try:
            await self._tasks.close()
        finally:
            await super().close()
