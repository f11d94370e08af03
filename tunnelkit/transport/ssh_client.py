"""The agent's end of an SSH connection: to a relay, or to an SSH server of any make.

asyncssh does key exchange, authentication and packets; streams are our own channels
(:mod:`tunnelkit.transport.ssh_channel`), and the socket below is of the pump's kind.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import asyncssh
from asyncssh.constants import (
    MSG_IGNORE,
    MSG_REQUEST_SUCCESS,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import SSHPacket, String, UInt32

from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.transport.ssh_answers import opened_text, refusal_text
from tunnelkit.transport.ssh_channel import (
    PACKET_SIZE,
    SUBSYSTEM,
    SshStream,
)
from tunnelkit.transport.ssh_congestion import HIGH_WATER, LOW_WATER, Congestion
from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.messages import MAX_MESSAGE, Message, Open, decode_channel, encode

__all__ = ["MAX_LINE", "SshClientStream", "SshConnection", "SshUser", "one_line"]

log = logging.getLogger("tunnelkit")

SESSION_TIMEOUT = 20.0
"""Seconds for a server to begin a session."""

LOOK_INTERVAL = 5.0
"""Seconds between looks at streams that wait for their peer: few, beside the stall time-out."""

MAX_STREAMS = 4096
"""Streams at once: as many as a relay's session has channels."""

MAX_UNSENT = 1 << 20
"""Bytes kept for a control channel whose peer reads nothing; beyond, the connection is given up."""

MAX_LINE = 1000
"""Characters of a line that a server says, beyond which it is cut."""


def one_line(error: Exception) -> str:
    """What a server may have had a hand in, fit for a terminal."""
    return "".join(filter(str.isprintable, str(error)))[:MAX_LINE] or type(error).__name__


class SshUser(Protocol):
    """Whoever has the connection."""

    def stream_opened(self, stream: SshClientStream, request: Open) -> None:
        """A visitor: ``accept`` or ``refuse``."""

    def lost(self, code: str) -> None:
        """The connection is gone, and nobody here closed it."""

    def said(self, line: str) -> None:
        """The server says something to a person."""


class SshClientStream(SshStream):
    """A stream that the server has opened."""

    __slots__ = ("_connection", "_visit")

    def __init__(self, connection: SshConnection, visit: Open) -> None:
        super().__init__(connection.pump, connection)
        self._connection = connection
        self._visit = visit

    def process_open(self, send_chan: int, send_window: int, send_pktsize: int, session: object) -> None:
        """asyncssh: the channel has a number now."""
        self._established(send_chan, send_window, send_pktsize)
        self._connection.user.stream_opened(self, self._visit)

    def accept(self) -> None:
        """The service is there: payload may flow."""
        self._accept()

    def accept_egress(self, source: str) -> None:
        """As :meth:`accept`, of a destination that was left for from ``source``."""
        self._accept(opened_text(source))

    def _accept(self, *said: bytes) -> None:
        if not self.closed:
            self.opened = True
            self._connection.send_channel_open_confirmation(
                self._peer, self.number, self._recv_window, PACKET_SIZE, *said
            )

    def refuse(self, code: str, what: str) -> None:
        """The service could not be reached."""
        if self.closed:
            return
        self.closed = self._close_sent = self._close_received = True
        self._dismiss()
        self._connection.send_channel_open_failure(
            self._peer, OPEN_CONNECT_FAILED, refusal_text(code, what), ""
        )
        self._release()

    def cancel(self, code: str) -> None:
        if self.opened:
            super().cancel(code)
        else:
            self.refuse(code, "The agent gave it up")

    def close(self) -> None:
        """asyncssh: the connection is about to be closed, and process_connection_close follows."""

    def gone(self) -> None:
        self._connection.streams.discard(self)


class _Lines(asyncssh.SSHClientSession[bytes]):
    """A session channel, line by line."""

    def __init__(self, connection: SshConnection, *, is_control: bool) -> None:
        self._connection = connection
        self._is_control = is_control
        self._rest = b""

    def data_received(self, data: bytes, datatype: object) -> None:
        if self._is_control and datatype is not None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._is_control:
                self._connection.control_received(line)
            elif text := line.decode("utf-8", "replace").strip():
                self._connection.user.said(text[:MAX_LINE])
        if len(self._rest) >= MAX_MESSAGE:
            self._rest = b""
            if self._is_control:
                self._connection.fail(errors.ProtocolError("A message that is too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_control:
            self._connection.drop(self._connection.end_code)


class SshConnection(asyncssh.SSHClientConnection):
    """One connection. ``control_text(line)`` of ``user`` hears the relay, where there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Any, pump: Pump, user: SshUser) -> None:
        super().__init__(loop, options, wait="auth")
        self._update_recv_pktlen(PACKET_SIZE)
        self.pump = pump
        self.user = user
        self.congestion = Congestion()
        self.forwards: dict[int, int] = {}
        """Ports that the server listens on, and the number of the tunnel of each."""
        self.streams: set[SshClientStream] = set()
        self.tried: list[str] = []
        """What has been asked of this side as proof."""
        self.debug = ""
        """What the server has said last to whoever looks for a reason."""
        self.end_code = "closed"
        """Why the connection has ended, if it has."""
        self.ended = False
        """Whether nobody is to hear of the connection's end any more."""
        self._control: Any = None
        self._on_text: Any = None
        self._clock: asyncio.TimerHandle | None = None

    # --- asyncssh's hooks -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        self.congestion.paused = True

    def resume_writing(self) -> None:
        self.congestion.resume()

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        # asyncssh puts an empty one before each packet, which protects CBC (RFC 4251 §9.3.1).
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    async def public_key_auth_requested(self) -> Any:
        key = await super().public_key_auth_requested()
        self.tried.append("key" if key else "no key")
        return key

    async def password_auth_requested(self) -> str | None:
        password = await super().password_auth_requested()
        if password is not None:
            self.tried.append("token")
        return password

    def _cleanup(self, exc: Exception | None) -> None:
        if isinstance(exc, asyncssh.ConnectionLost) and "keepalive" in str(exc):
            self.end_code = "timeout"
        if self._clock is not None:
            self._clock.cancel()
        super()._cleanup(exc)
        self.drop(self.end_code)

    def _process_stream_at_tunnelkit_open(self, packet: SSHPacket) -> tuple[SshClientStream, None]:
        text = packet.get_string()
        packet.check_end()
        try:
            message = decode_channel(text)
        except errors.ProtocolError as error:
            raise asyncssh.ProtocolError(error.what) from None
        if self._control is None or not isinstance(message, Open):
            raise asyncssh.ProtocolError("A stream that is none")
        return self._stream(message)

    def _process_forwarded_tcpip_open(self, packet: SSHPacket) -> Any:
        packet.get_string()  # the address as it was asked for, or as the server sees it
        port = packet.get_uint32()
        visitor = packet.get_string().decode("utf-8", "replace")
        visitor_port = packet.get_uint32()
        packet.check_end()
        # Where a server says 0 for a port that it chose itself, there is but one to choose from.
        numbers = self.forwards.values() if port == 0 else [self.forwards.get(port, 0)]
        number = next(iter(numbers), 0)
        if not number:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "No such forward")
        return self._stream(Open(0, number, str(Endpoint(visitor, visitor_port))))

    def _stream(self, visit: Open) -> tuple[SshClientStream, None]:
        if len(self.streams) >= MAX_STREAMS:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, "limit The agent has too many streams")
        stream = SshClientStream(self, visit)
        self.streams.add(stream)
        return stream, None

    # --- the control channel --------------------------------------------------------------------

    async def open_control(self, on_text: Any) -> None:
        """Ask for the relay's subsystem; ``on_text(line)`` hears it."""
        self._on_text = on_text
        try:
            async with asyncio.timeout(SESSION_TIMEOUT):
                self._control, _ = await self.create_session(
                    lambda: _Lines(self, is_control=True),
                    subsystem=SUBSYSTEM,
                    encoding=None,
                    request_pty=False,
                )
        except (asyncssh.Error, OSError) as error:
            where = Endpoint(self._host, self._port)
            raise errors.NotARelayError(
                f"The SSH server at {where} is no tunnelkit relay: {one_line(error)}",
                hint="Give ssh+openssh://USER@HOST for the port forwarding of any SSH server",
            ) from None

    async def open_shell(self) -> None:
        """Begin a session, for what the server says in it; whether it gave one."""
        try:
            await self.create_session(
                lambda: _Lines(self, is_control=False), encoding=None, request_pty=False
            )
        except (asyncssh.Error, OSError) as error:
            log.info("no session at the SSH server: %s", error)

    @property
    def server(self) -> str:
        """What the server calls itself (RFC 4253 §4.2), such as ``OpenSSH_9.2p1``."""
        return str(self.get_extra_info("server_version", "")).removeprefix("SSH-2.0-")

    @property
    def babbled(self) -> bool:
        """Whether lines came and no version behind them (RFC 4253 §4.2): from a server of another protocol,
        or from an OpenSSH that is too busy."""
        return not self.server and self._banner_lines > 0

    def watch(self, interval: float, timeout: float) -> None:
        """From now on the server is asked after ``interval`` seconds of silence, and given up after
        ``timeout`` more, counted in intervals. Any byte is life."""
        self.set_keepalive(interval, max(1, round(timeout / interval)))
        if self._clock is None:
            self._look()

    def _look(self) -> None:
        """Give up streams whose peer has taken nothing for the stall time-out."""
        latest = self._loop.time() - self.pump.stall_timeout
        for stream in list(self.streams):
            if 0 < stream.stalled_since < latest:
                stream.lost("stalled")
        self._clock = self._loop.call_later(LOOK_INTERVAL, self._look)

    def control_received(self, line: bytes) -> None:
        """A line of the relay."""
        try:
            if not self.ended:
                self._on_text(line)
        except errors.ProtocolError as error:
            self.fail(error)

    def send(self, message: Message) -> bool:
        """Send a message; False where there is no control channel."""
        if self._control is None or self.ended:
            return False
        try:
            self._control.write(encode(message) + b"\n")
        except OSError:
            return False
        if self._control.get_write_buffer_size() > MAX_UNSENT:
            self.drop("stalled")
        return True

    # --- forwards -------------------------------------------------------------------------------

    async def forward(self, port: int, number: int) -> int:
        """Have the server listen at ``port``, 0: any, for tunnel ``number``; the port, 0: refused."""
        self.debug = ""
        kind, packet = await self._make_global_request(b"tcpip-forward", String(""), UInt32(port))
        if kind != MSG_REQUEST_SUCCESS:
            return 0
        port = port or packet.get_uint32()
        self.forwards[port] = number
        return port

    async def cancel_forward(self, port: int) -> None:
        """Have the server listen there no more."""
        if self.forwards.pop(port, None) is not None:
            await self._make_global_request(b"cancel-tcpip-forward", String(""), UInt32(port))

    # --- the end --------------------------------------------------------------------------------

    def fail(self, error: errors.TunnelkitError) -> None:
        """End the connection for a named reason."""
        log.warning("SSH connection ended: %s", error)
        self.drop(error.code)

    def drop(self, code: str) -> None:
        """The connection is of no more use."""
        if not self.ended:
            self.ended = True
            self.abort()
            self.user.lost(code)

    def end(self) -> None:
        """Take leave; ``lost`` is not called."""
        if not self.ended:
            self.ended = True
            self.close()
