"""UDP ASSOCIATE (RFC 1928 §7): a client's datagrams, from a pinned address, and the answers to them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Self

from tunnelkit.errors import LimitError, ProtocolError, ProxyError, TunnelkitError
from tunnelkit.net.sockets import AnySocket
from tunnelkit.wire.socks_server import datagram_header, parse_datagram

if TYPE_CHECKING:
    from tunnelkit.egress.access import Access
    from tunnelkit.egress.client import Client
    from tunnelkit.egress.front import Front

__all__ = ["Association"]

BATCH = 64
"""Datagrams received before others get a turn."""

MAX_HELD = 16
"""Datagrams kept for a destination that is being looked up; more are dropped, as a router would."""

Place = tuple[str, int]


class Association:
    """One association, which lives as long as the TCP connection ``control`` that asked for it.

    Datagrams are taken from the client's own address alone, and from the port that the first of
    them came from. A destination is resolved and judged once; answers come in only from where
    something was sent to. What is not allowed is dropped without a word: UDP has none.
    """

    def __init__(self, front: Front, control: AnySocket, host: str, user: str, near: socket.socket) -> None:
        self.address: Place = near.getsockname()[:2]
        """Where the client sends its datagrams."""
        self._front = front
        self._control = control
        self._control_fd = control.fileno()
        self._host = host
        self._who = user or host
        self._near = near
        self._client: Any = None  # the client's socket address, once it has sent something
        self._far: dict[socket.AddressFamily, socket.socket] = {}
        self._places: dict[Place, Any] = {}  # by what the client calls it; None: not allowed
        self._held: dict[Place, list[bytes]] = {}  # until it is known where to
        self._peers: dict[Place, None] = {}  # where something was sent to
        self._lookups: set[asyncio.Task[Any]] = set()
        self._access: Access
        self._since = front.now()
        self._moved = False
        self._quiet = 0

    @classmethod
    def open(cls, front: Front, control: AnySocket, host: str, user: str) -> Self:
        """Take the client's quota and a port on the address that it came to."""
        if len(front.associations) >= front.limits.associations:
            raise LimitError(f"There are {front.limits.associations} UDP associations already")
        front.quota.take(user or host, front.now())
        here: Any = control.getsockname()
        local = here[0].removeprefix("::ffff:") if "." in here[0] else here[0]
        near = None
        try:
            near = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
            near.setblocking(False)
            near.bind((local, 0, *here[2:]) if ":" in local else (local, 0))
        except OSError as error:
            if near is not None:
                near.close()
            front.quota.give_back(user or host)
            raise ProxyError(f"No port for datagrams: {error.strerror}") from error
        return cls(front, control, host, user, near)

    def begin(self, client: Client, access: Access) -> None:
        """``client`` has been told of it, and is this association from now on."""
        self._access = access
        self._front.became(client, self)
        self._front.associations.add(self)
        poller = self._front.pump.poller
        poller.add_reader(self._control_fd, self._watch_control)
        poller.add_reader(self._near.fileno(), self._from_client)

    # --- from the client ------------------------------------------------------------------------

    def _from_client(self) -> None:
        area = self._front.pump.area
        for _ in range(BATCH):
            try:
                count, address = self._near.recvfrom_into(area)
            except OSError:  # nothing more, or an ICMP error of an earlier answer
                return
            if self._client is None and address[0] == self._host:
                self._client = address
            if address != self._client:
                continue  # a stranger
            try:
                datagram = parse_datagram(area[:count])
            except ProtocolError:
                continue
            if datagram.fragment:
                continue  # RFC 1928 §7: who does not put them together drops them
            place = datagram.host, datagram.port
            if place in self._places:
                self._send(self._places[place], datagram.payload)
            else:
                self._find(place, bytes(datagram.payload))

    def _find(self, place: Place, payload: bytes) -> None:
        """Where does it go? One lookup, and one decision."""
        dialer, limits = self._front.dialer, self._front.limits
        assert dialer is not None
        if (held := self._held.get(place)) is not None:
            if len(held) < MAX_HELD:
                held.append(payload)
            return
        try:
            address = dialer.resolve_now(*place)
        except TunnelkitError:
            self._found(place, None)
            return
        if address is not None:
            self._found(place, address)
            self._send(address, payload)
        elif len(self._held) < limits.udp_destinations:
            self._held[place] = [payload]
            task = self._front.tasks.spawn(self._look_up(place), "resolve")
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up(self, place: Place) -> None:
        dialer = self._front.dialer
        assert dialer is not None
        try:
            address = await dialer.resolve(*place, client=self._who)
        except TunnelkitError:
            address = None
        held = self._held.pop(place)
        self._found(place, address)
        for payload in held:
            self._send(address, payload)

    def _found(self, place: Place, address: Any) -> None:
        if len(self._places) >= self._front.limits.udp_destinations:
            del self._places[next(iter(self._places))]
        self._places[place] = address

    def _send(self, address: Any, payload: bytes | memoryview) -> None:
        if address is None:
            return
        try:
            self._socket(address.family).sendto(payload, address.sockaddr)
        except (OSError, TunnelkitError):
            return  # lost, as datagrams may be; from another address it does not go
        peer = address.sockaddr[:2]
        if peer not in self._peers:
            if len(self._peers) >= self._front.limits.udp_destinations:
                del self._peers[next(iter(self._peers))]
            self._peers[peer] = None
        self._moved = True
        self._access.sent += len(payload)

    def _socket(self, family: socket.AddressFamily) -> socket.socket:
        """The socket to send from; bound when it is first needed, and kept: answers come to it."""
        if (sock := self._far.get(family)) is None:
            assert self._front.dialer is not None
            sock, source = self._front.dialer.bind_udp(family, client=self._who)
            self._far[family] = sock
            self._access.source = ",".join(filter(None, (self._access.source, source)))
            self._front.pump.poller.add_reader(sock.fileno(), lambda: self._from_peer(sock))
        return sock

    # --- to the client --------------------------------------------------------------------------

    def _from_peer(self, sock: socket.socket) -> None:
        area = self._front.pump.area
        for _ in range(BATCH):
            try:
                count, address = sock.recvfrom_into(area)
            except OSError:
                return
            if address[:2] not in self._peers or self._client is None:
                continue
            try:
                self._near.sendmsg((datagram_header(*address[:2]), area[:count]), (), 0, self._client)
            except OSError:
                continue  # too large with its header, or too much at once
            self._moved = True
            self._access.received += count

    # --- the end --------------------------------------------------------------------------------

    def _watch_control(self) -> None:
        """Nothing is said on the control connection any more; its end is the association's."""
        try:
            if self._control.recv_into(self._front.pump.area):
                return
        except BlockingIOError:
            return
        except OSError:
            self._end("reset")
            return
        self._end("ok")

    def look(self, patience: int) -> None:
        """Looked at from time to time: when nothing has moved for so many times, it ends."""
        self._quiet = 0 if self._moved else self._quiet + 1
        self._moved = False
        if self._quiet > patience:
            self._end("idle")

    def _end(self, code: str) -> None:
        front, access = self._front, self._access
        if self not in front.associations:
            return
        front.associations.discard(self)
        for task in self._lookups:
            task.cancel()
        for sock in (self._near, *self._far.values()):
            front.pump.poller.remove_reader(sock.fileno())
            sock.close()
        front.pump.poller.remove_reader(self._control_fd)
        self._control.close()
        front.quota.give_back(self._who)
        front.gone(self, self._host)
        access.seconds = front.now() - self._since
        front.log(access, code)

    def drain(self) -> None:
        """It has no end of its own but its client's: that may take until the grace is over."""

    def abort(self) -> None:
        self._end("proxy_closed")

    def timed_out(self) -> None:
        """No clock of the front's runs for it."""
