"""A client of the proxy: its first byte says what it speaks, and SOCKS is spoken here."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from tunnelkit.egress.access import Access
from tunnelkit.egress.http_client import HttpClient
from tunnelkit.egress.udp import Association
from tunnelkit.errors import ProtocolError, ProxyAuthError, TunnelkitError
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import Outgoing, Target
from tunnelkit.wire.http_fields import TOKEN
from tunnelkit.wire.socks_server import Login, Request, SocksServer

if TYPE_CHECKING:
    from tunnelkit.egress.front import Front

__all__ = ["Client"]

SOCKS_VERSIONS = (4, 5)

LINGER_BYTES = 1 << 16
"""Bytes a client may still send while it is told why it is refused: closing at once would reset the
connection, and the answer with it."""


class Client:
    """One connection until it is joined with its destination, or somebody else's.

    While something is decided nothing is read: what the client sends early waits in the kernel.
    """

    __slots__ = (
        "_access",
        "_closed",
        "_front",
        "_left",
        "_parser",
        "_reading",
        "_sock",
        "_task",
        "address",
        "fd",
        "stalled_since",
        "user",
    )

    _parser: SocksServer

    def __init__(self, front: Front, sock: AnySocket, address: tuple[str, int]) -> None:
        self.address = address
        self.fd = sock.fileno()
        self.user = ""
        self.stalled_since = 0.0
        self._front = front
        self._sock = sock
        self._access = Access(address, "")
        self._closed = False
        self._reading = False
        self._task: asyncio.Task[Any] | None = None
        self._left = LINGER_BYTES

    def begin(self) -> None:
        self._front.head_started(self)
        self._read(self._first)

    # --- reading --------------------------------------------------------------------------------

    def _read(self, callback: Any) -> None:
        """Have ``callback`` called when there is something to read."""
        self._front.pump.poller.add_reader(self.fd, callback)
        if not self._reading:
            self._reading = True
            self._front.pump.unwatch(self)

    def _wait(self) -> None:
        """Read nothing for now. What comes meanwhile is looked at once: most clients send nothing."""
        if self._reading:
            self._front.pump.poller.add_reader(self.fd, self._too_early)

    def _too_early(self) -> None:
        self._reading = False
        self._front.pump.poller.remove_reader(self.fd)
        self._front.pump.watch(self)

    def _receive(self) -> bytes:
        """What has come; empty where there is nothing, and perhaps never will be."""
        area = self._front.pump.area
        try:
            count = self._sock.recv_into(area)
        except BlockingIOError:
            return b""
        except OSError:
            self._gone("reset")
            return b""
        if not count:
            self._gone("closed")
        return bytes(area[:count])

    def _first(self) -> None:
        if not (data := self._receive()):
            return
        if data[0] in SOCKS_VERSIONS:
            self._parser = SocksServer(login_required=self._front.users is not None)
            self._access.protocol = f"socks{data[0]}"
            self._read(self._readable)
            self._take(data)
        elif TOKEN.match(data):
            front = self._front
            front.forget(self)
            self._closed = True
            client = HttpClient(front, self._sock, self.address)
            front.became(self, client)
            client.begin(data)
        else:
            self._gone("protocol")

    def _readable(self) -> None:
        if data := self._receive():
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            self._go_on(self._parser.receive(data))
        except (ProtocolError, ProxyAuthError) as error:
            self._refuse(error.code)

    def _go_on(self, event: Login | Request | None) -> None:
        if isinstance(event, Login):
            self._judge(event)
        elif event is not None:
            self._request(event)
        else:
            self._send(self._parser.data_to_send())
            self._read(self._readable)

    # --- who and where to -----------------------------------------------------------------------

    def _judge(self, login: Login) -> None:
        users = self._front.users
        known = True if users is None else users.check_now(login.username, login.password)
        if known is None:
            self._wait()
            self._task = self._front.tasks.spawn(self._check(login), "check a password")
        else:
            self._judged(login, known=known)

    async def _check(self, login: Login) -> None:
        assert self._front.users is not None
        known = await self._front.users.check(login.username, login.password)
        if not self._closed:
            self._judged(login, known=known)

    def _judged(self, login: Login, *, known: bool) -> None:
        if not known:
            self._parser.refuse_login()
            self._refuse(ProxyAuthError.code)
            return
        if self._front.users is not None:
            self.user = self._access.user = login.username
        try:
            self._go_on(self._parser.accept_login())
        except (ProtocolError, ProxyAuthError) as error:
            self._refuse(error.code)

    def _request(self, request: Request) -> None:
        front, access = self._front, self._access
        front.head_done(self)
        access.host, access.port = request.host, request.port
        if request.command == "udp":
            self._associate()
            return
        self._wait()
        target = Target(request.host, request.port, self.address[0], self.user)
        self._task = front.open(target, self._opened, self._failed)

    def _associate(self) -> None:
        front = self._front
        self._access.protocol = "socks5-udp"
        self._access.host = ""
        if front.dialer is None:  # datagrams do not go through another proxy, or by a relay
            self._parser.fail("command")
            self._refuse("command")
            return
        try:
            association = Association.open(front, self._sock, self.address[0], self.user)
        except TunnelkitError as error:
            self._failed(error)
            return
        self._parser.succeed(*association.address)
        self._send(self._parser.data_to_send())
        self._leave()
        association.begin(self, self._access)

    def _opened(self, stream: Outgoing) -> None:
        if self._closed:
            stream.cancel("client_gone")
            self._front.quota.give_back(self.user or self.address[0])
            return
        self._access.source = stream.source
        self._parser.succeed(stream.source or "0.0.0.0")
        self._leave()
        self._front.join(
            self,
            self._sock,
            stream,
            self._access,
            early=self._parser.rest,
            answer=self._parser.data_to_send(),
        )

    def _failed(self, error: TunnelkitError) -> None:
        if not self._closed:
            self._parser.fail(error.code)
            self._refuse(error.code)

    # --- sending --------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """A few bytes at the beginning of a connection always fit into its socket's buffer."""
        if data:
            try:
                self._sock.send(data)
            except OSError:
                self._front.pump.loop.call_soon(self.broken)

    def _refuse(self, code: str) -> None:
        """Send what the parser has to say, and close once the client has seen it."""
        self._front.forget(self)
        self._front.log(self._access, code)
        self._send(self._parser.data_to_send())
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._shut()
            return
        self._access.end = code
        self._read(self._discard)
        self._front.linger_started(self)

    def _discard(self) -> None:
        data = self._receive()
        self._left -= len(data)
        if self._left < 0:
            self._shut()

    # --- the end --------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The socket is somebody else's now; its reader stays where it is, to be replaced."""
        self._closed = True
        self._front.forget(self)
        self._front.pump.unwatch(self)

    def _gone(self, code: str) -> None:
        if not self._closed and not self._access.end:
            self._front.log(self._access, code)
        self._shut()

    def _shut(self) -> None:
        if self._closed:
            return
        self._leave()
        if self._reading:
            self._front.pump.poller.remove_reader(self.fd)
        if self._task is not None:
            self._task.cancel()
        self._front.gone(self, self.address[0])
        self._sock.close()

    def abort(self) -> None:
        self._gone("proxy_closed")

    def drain(self) -> None:
        """The proxy shuts down: who has not said where to go does not get there."""
        if self._task is None:
            self.abort()

    def timed_out(self) -> None:
        self._gone("timeout")

    # --- watched by the pump while nothing is read ----------------------------------------------

    def watched_fd(self) -> int:
        return self.fd

    def broken(self) -> None:
        self._gone("reset")

    def stalled(self) -> None:
        self._gone("stalled")
