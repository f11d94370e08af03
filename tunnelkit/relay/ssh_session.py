"""One SSH connection as a session of the relay: its streams, its tunnels, its liveness.

There is no pool: SSH multiplexes, so a stream is a new channel. Nothing outlives the connection but
the reservation of names and ports.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from tunnelkit.errors import LimitError, RefusedError
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import StreamUser
from tunnelkit.relay.auth import Identity
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.relay.sessions import AgentAwayError, SessionStream
from tunnelkit.transport.channels import Opened
from tunnelkit.transport.ssh import SshConnection, SshServer
from tunnelkit.transport.ssh_channel import WINDOW
from tunnelkit.transport.ssh_stream import RelayStream
from tunnelkit.wire import messages

__all__ = ["Client", "SshSession", "Stream"]

GHOST_TIMEOUT = 1.0
"""Seconds for a client to show that it is there, before a newer one of the same owner takes its tunnels."""

MAX_UNREAD = 256 << 20
"""Bytes that the streams of one connection share as windows, so that visitors who stop reading by the
thousand do not cost gigabytes. Up to 128 streams have all that a fast and distant client needs."""

MIN_WINDOW = 64 * 1024
"""Bytes that a stream may leave unread in any case: one buffer, as with WebSocket."""

CHECKS = 4
"""Liveness checks in a ping interval: see :mod:`tunnelkit.transport.liveness`."""


class Client(Protocol):
    """What is at the other end: our own agent, or a stock SSH client."""

    yields: bool
    """Whether it stays away once it is told that it has been replaced."""

    def tell(self, message: messages.Message) -> None:
        """Pass a message on."""

    def open(self, stream: Stream, request: messages.Open) -> bytes:
        """Ask for ``stream`` to be opened; bytes to send on it first."""

    def unanswered(self, stream: Stream) -> None:
        """It has not answered in time."""

    def closed(self, stream: Stream) -> None:
        """A stream that had been opened has ended."""


class Stream(RelayStream):
    """A stream of this session; ``number`` is its channel, ``request`` what it was opened for."""

    __slots__ = ("_opened", "_session", "request")

    request: messages.Open
    _opened: Opened | None

    def __init__(self, session: SshSession, connection: SshConnection) -> None:
        answered, gone = session.channel_answered, session.channel_gone
        super().__init__(session.pump, connection, session.next_window, answered, gone)
        self._session = session

    def open(
        self, request: messages.Open, user: StreamUser, payload: bytes = b"", opened: Opened | None = None
    ) -> None:
        self._opened = opened
        self.use(user)
        self.request = request
        first = self._session.client.open(self, request) + payload
        self._session.started.add(self)
        if first:
            self.send(first)

    def confirmed(self, source: str) -> None:
        super().confirmed(source)
        if self._opened is not None:
            self._opened(source)

    def give_back(self) -> None:
        """It was not opened after all."""
        self.closed = True
        self._release()


class SshSession:
    """A :class:`~tunnelkit.relay.sessions.Session`; ``on_gone(session)`` is called when it has ended."""

    def __init__(
        self,
        pump: Pump,
        connection: SshConnection,
        identity: Identity,
        limits: Limits,
        on_gone: Callable[[SshSession], None],
    ) -> None:
        self.id = secrets.token_hex(8)
        self.pump = pump
        self.identity = identity
        self.agent = ""
        self.client: Client
        self.tunnels: dict[int, RelayTunnel] = {}
        self.started: set[Stream] = set()
        self.draining = False
        self.ended = False
        self.connection = connection
        self._limits = limits
        self._on_gone = on_gone
        self._streams: set[Stream] = set()
        self._opening: dict[Stream, float] = {}
        self._reaching: dict[Stream, float] = {}  # as _opening; these wait longer
        self._stream = 0
        self._silent = 0
        self._quiet = CHECKS - 1
        self._dead = self._quiet + max(1, int(limits.ping_timeout / (limits.ping_interval / CHECKS)))

    def __repr__(self) -> str:
        return f"<SshSession {self.id} of {self.identity.name}, {len(self._streams)} streams>"

    @property
    def attached(self) -> bool:
        return not self.ended

    @property
    def wanting(self) -> bool:
        return self.full

    @property
    def full(self) -> bool:
        """Whether there may be no further stream."""
        return len(self._streams) >= self._limits.channels_per_session

    @property
    def next_window(self) -> int:
        """The window of the next stream: the more there are, the less each may leave unread."""
        return max(MIN_WINDOW, min(WINDOW, MAX_UNREAD // (len(self._streams) + 1)))

    @property
    def busy(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    async def gives_way(self) -> bool:
        if self.client.yields or self.ended:
            return True
        if await self.connection.answers(GHOST_TIMEOUT):
            return False
        self.connection.abort()
        self.end("timeout")
        return True

    def permits(self, message: messages.Request) -> None:
        rules = self.connection.rules
        host = "" if message.kind == "tcp" else message.name
        if not rules.permits(host, 80 if message.kind == "http" else message.port):
            what = f"port {message.port}" if message.kind == "tcp" else f"name {host!r}"
            raise RefusedError(
                f"This key may not listen at {what}" if rules.forwarding else "This key may not listen",
                hint="Ask the relay's operator about permitlisten and restrict in authorized_keys",
            )

    def send(self, message: messages.Message) -> bool:
        if self.ended:
            return False
        self.client.tell(message)
        return True

    def replaced(self, number: int) -> None:
        self.send(messages.Replaced(number))

    # --- streams --------------------------------------------------------------------------------

    def next_stream(self) -> int:
        self._stream += 1
        return self._stream

    def take(self) -> SessionStream | None:
        if self.ended or self.full:
            return None
        stream = Stream(self, self.connection)
        self._streams.add(stream)
        return stream

    async def acquire(self) -> SessionStream:
        stream = self.take()
        if stream is not None:
            return stream
        if self.ended:
            raise AgentAwayError("The tunnel's client has left")
        for tunnel in self.tunnels.values():
            if tunnel.upstreams:
                tunnel.upstreams[0].give_up()  # for the next one who comes
                break
        raise LimitError(f"A connection has at most {self._limits.channels_per_session} streams")

    def opening(self, channel: SessionStream) -> None:
        assert isinstance(channel, Stream)
        self._opening[channel] = self.pump.loop.time() + self._limits.open_timeout

    def reaching(self, channel: SessionStream) -> None:
        assert isinstance(channel, Stream)
        self._reaching[channel] = self.pump.loop.time() + self._limits.exit_timeout

    def channel_free(self, channel: SessionStream) -> None:
        assert isinstance(channel, Stream)
        channel.give_back()

    def channel_answered(self, stream: RelayStream) -> None:
        """The client has answered an opening."""
        assert isinstance(stream, Stream)
        self._opening.pop(stream, None)
        self._reaching.pop(stream, None)

    def channel_gone(self, stream: RelayStream) -> None:
        """A channel's number is free."""
        assert isinstance(stream, Stream)
        self._streams.discard(stream)
        self._opening.pop(stream, None)
        self._reaching.pop(stream, None)
        if stream in self.started:
            self.started.discard(stream)
            self.client.closed(stream)

    # --- time -----------------------------------------------------------------------------------

    def tick(self, now: float, *, liveness: bool) -> None:
        for waiting in (self._opening, self._reaching):
            while waiting:
                stream, deadline = next(iter(waiting.items()))
                if deadline > now:
                    break
                del waiting[stream]
                self.client.unanswered(stream)
        latest = now - self._limits.stall_timeout
        for stream in list(self._streams):
            if 0 < stream.stalled_since < latest:
                stream.lost("stalled")
        if liveness:
            self._check()

    def _check(self) -> None:
        if self.connection.heard:
            self.connection.heard = False
            self._silent = 0
            return
        self._silent += 1
        if self._silent > self._dead:
            self.connection.abort()
            self.end("timeout")
        elif self._silent == self._quiet:
            self.connection.ping()

    # --- the end --------------------------------------------------------------------------------

    def end(self, code: str = "agent_away") -> None:
        """End the session with all its streams."""
        if self.ended:
            return
        self.ended = True
        for stream in list(self._streams):
            stream.lost(code)
        SshServer.end(self.connection, "closed by the relay")
        self._on_gone(self)
