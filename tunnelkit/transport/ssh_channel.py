"""Streams as SSH channels (RFC 4254 §5): the relay's and the agent's side have this in common.

An :class:`SshStream` is a :class:`~tunnelkit.net.stream.Stream` to its user, and to asyncssh's
connection what its own channel objects are: it gets their packets and sends through the connection.
asyncssh's channels would copy each write twice, make two tasks a stream, and lose an end that comes
before the close while reading is paused.
"""

from __future__ import annotations

from collections import deque

from asyncssh import ProtocolError
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, String, UInt32

from tunnelkit.net.pipes import Pipe
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import StreamUser
from tunnelkit.transport.ssh_answers import opened_source, refusal
from tunnelkit.transport.ssh_congestion import ChannelHost

__all__ = ["SUBSYSTEM", "WINDOW", "SshStream"]

SUBSYSTEM = "tunnelkit.v1"
"""The subsystem of a control connection, and the version of the protocol."""

STREAM_TYPE = "stream@tunnelkit"
"""Type of the channels that the relay opens to an agent."""

WINDOW = 1 << 21
"""Bytes a peer may send before this side has passed them on: 100 Mbit/s over 160 ms, and OpenSSH's own."""

PACKET_SIZE = 128 * 1024
"""Bytes of payload in a packet that a peer may send. Between our own ends large ones are less work a byte;
OpenSSH sends the 32 KiB that every implementation takes (RFC 4253 §6.1), whatever it may."""

DATA_HEADER = 9
"""Bytes before the payload of a packet: its type, the channel, the length (RFC 4254 §5.2)."""

MAX_PACKET = 128 * 1024
"""Bytes of payload in a packet this side sends, whatever more the peer would take."""

MAX_WINDOW = 2**32 - 1
"""What a window may grow to (RFC 4254 §5.2)."""

CANCEL_PATIENCE = 5.0
"""Seconds without progress after which what precedes an abort is given up."""

CANCEL_INTERVAL = 0.5
"""Seconds between looks at whether it has gone out."""


class _Nobody:
    """The user of a stream that nobody wants."""

    def payload(self, data: memoryview | bytes) -> None: ...
    def ended(self) -> None: ...
    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...
    def drained(self) -> None: ...


NOBODY = _Nobody()


class SshStream:
    """See the module. Subclasses say how a channel is opened, and hear that it is gone."""

    __slots__ = (
        "_abandoned",
        "_close_received",
        "_close_sent",
        "_done",
        "_end_told",
        "_ending",
        "_eof_received",
        "_eof_sent",
        "_host",
        "_in",
        "_out",
        "_packet_max",
        "_peer",
        "_pump",
        "_recv_window",
        "_released",
        "_send_window",
        "_window",
        "bytes_received",
        "bytes_sent",
        "closed",
        "number",
        "opened",
        "paused",
        "stalled_since",
        "user",
    )

    splices = False
    user: StreamUser

    def __init__(self, pump: Pump, host: ChannelHost, window: int = WINDOW) -> None:
        """``window``: bytes that the peer may send before they have been passed on."""
        self.user = NOBODY
        self.bytes_sent = 0
        self.bytes_received = 0
        self.stalled_since = 0.0
        """Loop time since which the peer has let nothing out; 0 while nothing waits."""
        self.closed = False
        """Whether the stream is of no more use, even if the channel's number still is."""
        self.opened = False
        self.paused = False
        self._pump = pump
        self._host = host
        self._peer = 0  # the peer's number for the channel
        self._send_window = 0
        self._packet_max = 0
        self._window = self._recv_window = window
        self._out: deque[memoryview] = deque()  # what waits for the peer or the network
        self._in: deque[memoryview] = deque()  # what waits for the user; a window at most
        self._ending = False  # this side has ended, what waits goes out first
        self._abandoned = False  # cancelled: closed as soon as that can be
        self._done = False  # the user has had everything
        self._end_told = False  # the user knows that the other side has ended
        self._released = False
        self._eof_sent = self._eof_received = False
        self._close_sent = self._close_received = False
        self.number = host.add_channel(self)

    def use(self, user: StreamUser) -> None:
        """From now on ``user`` is called back."""
        self.user = user

    def _dismiss(self) -> StreamUser:
        last, self.user = self.user, NOBODY
        return last

    # --- opening --------------------------------------------------------------------------------

    def _request(self, kind: str, data: bytes) -> None:
        """Ask the peer to open this channel."""
        self._host.send_packet(
            MSG_CHANNEL_OPEN,
            String(kind),
            UInt32(self.number) + UInt32(self._window) + UInt32(PACKET_SIZE),
            data,
            handler=self,
        )
        self.stalled_since = self._pump.loop.time()

    def rehost(self, host: ChannelHost) -> None:
        """Belong to ``host`` instead; only before the opening."""
        self._host.remove_channel(self.number)
        self._host = host

    def _established(self, peer: int, window: int, packet_size: int) -> None:
        self._peer = peer
        self._send_window = window
        self._packet_max = min(packet_size, MAX_PACKET)

    def process_open_confirmation(
        self, send_chan: int, send_window: int, send_pktsize: int, packet: SSHPacket
    ) -> None:
        """asyncssh: the peer has opened the channel."""
        if self.opened:
            raise ProtocolError("Channel not being opened")
        self._established(send_chan, send_window, send_pktsize)
        self.opened = True
        if not self._abandoned:
            self.confirmed(opened_source(packet))
        self.flush()

    def process_open_failure(self, code: int, reason: str, lang: str) -> None:
        """asyncssh: the peer will not open it."""
        if self.opened:
            raise ProtocolError("Channel not being opened")
        self._close_sent = self._close_received = True
        self._release()
        if not self.closed:
            self.answered()
            self.closed = True
            self._dismiss().refused(*refusal(reason))

    def confirmed(self, source: str) -> None:
        """The peer has opened the channel, and says from where it left, if it did (:func:`opened_text`)."""
        self.answered()

    def answered(self) -> None:
        """The peer has answered the opening."""

    # --- receiving ------------------------------------------------------------------------------

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:
        """asyncssh: a packet for this channel, read up to its number."""
        if not self.opened or self._close_received:
            raise ProtocolError("Channel not open")
        if pkttype == MSG_CHANNEL_DATA:
            size = packet.get_uint32()
            data = memoryview(packet.get_full_payload())[DATA_HEADER:]
            if len(data) != size:
                raise ProtocolError("Data of another length than it says")
            self._received(data)
        elif pkttype == MSG_CHANNEL_WINDOW_ADJUST:
            self._send_window += packet.get_uint32()
            packet.check_end()
            if self._send_window > MAX_WINDOW:
                raise ProtocolError("Window too large")
            self.flush()
        elif pkttype == MSG_CHANNEL_EOF:
            packet.check_end()
            if self._eof_received:
                raise ProtocolError("A second end")
            self._eof_received = True
            self._deliver()
        elif pkttype == MSG_CHANNEL_CLOSE:
            packet.check_end()
            self._close_received = True
            self._deliver()
        elif pkttype == MSG_CHANNEL_REQUEST:
            packet.get_string()
            if packet.get_boolean() and not self._close_sent:
                self._send(MSG_CHANNEL_FAILURE)
        else:
            raise ProtocolError(f"Unexpected packet {pkttype} on a stream")
        return True

    def log_received_packet(self, pkttype: int, pktid: int, packet: object, note: str = "") -> None:
        """asyncssh's packet log, which streams leave out."""

    def log_sent_packet(self, pkttype: int, pktid: int, packet: object, note: str = "") -> None:
        """asyncssh's packet log, which streams leave out."""

    def _received(self, data: memoryview) -> None:
        size = len(data)
        if self._eof_received or size > self._recv_window:
            raise ProtocolError("Data beyond the window, or after the end")
        self._recv_window -= size
        if self.closed or not size:
            return
        self.bytes_received += size
        if self.paused or self._in:  # what came before waits its turn still
            self._in.append(data)
        else:
            self.user.payload(data)
            self._credit()

    def _credit(self) -> None:
        """Let the peer send as much again as has been passed on."""
        used = self._recv_window < self._window // 2
        if used and not (self.paused or self._eof_received or self._close_sent):
            self._send(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._window - self._recv_window))
            self._recv_window = self._window

    def _deliver(self) -> None:
        """Pass on what has come, as far as the user takes it; and the end, if it has come."""
        aborted = self._close_received and not self._eof_received
        while self._in and (aborted or not self.paused):
            self.user.payload(self._in.popleft())
        self._credit()
        if self._in:
            return
        if self._eof_received and not self._end_told and not self.paused:
            self._end_told = True
            self.user.ended()
        if self._close_received and (aborted or self._end_told):
            self._peer_closed(aborted=aborted)

    def _peer_closed(self, *, aborted: bool) -> None:
        """The peer has closed the channel, and all that came before has been passed on."""
        takes_no_more = aborted or not self._eof_sent
        self._close()
        if takes_no_more and not self.closed:
            self._abort("reset")

    def _abort(self, code: str) -> None:
        """The stream has ended without a clean end, and not by this side."""
        self.closed = True
        self._in.clear()
        self._out.clear()
        self._host.congestion.waiting.discard(self)
        self._dismiss().aborted(code)

    def process_connection_close(self, exc: Exception | None) -> None:
        """asyncssh: the connection is gone."""
        self._close_sent = self._close_received = True
        self._release()
        while self._in:
            self.user.payload(self._in.popleft())
        if self._eof_received and not self._end_told:
            self._end_told = True
            self.user.ended()
        if not self.closed and not (self._eof_received and self._eof_sent):
            self._abort("closed" if self.opened else "unanswered")

    def close(self) -> None:
        """asyncssh: the connection is about to be closed; :meth:`process_connection_close` follows."""

    def pause(self) -> None:
        """Stop calling ``payload``."""
        self.paused = True

    def resume(self) -> None:
        """Go on calling ``payload``."""
        if self.paused:
            self.paused = False
            self._pump.loop.call_soon(self._resumed)  # the caller is in the midst of something

    def _resumed(self) -> None:
        if not self.paused and not self.closed:
            self._deliver()

    # --- sending --------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether what is sent now would have to wait."""
        return not self.opened or bool(self._out) or self._host.congestion.paused

    def _send(self, kind: int, *data: bytes) -> None:
        self._host.send_packet(kind, UInt32(self._peer), *data, handler=self)

    def send_buffered(self, count: int) -> bool:
        """Send the first ``count`` bytes of the pump's area; False: wait for ``drained``."""
        return self.send(self._pump.area[:count])

    def send_spliced(self, pipe: Pipe, count: int) -> bool:
        """Never called: ``splices`` is False, for encryption has to see every byte."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> bool:
        """Send ``data`` as payload; False: wait for ``drained``."""
        self.bytes_sent += len(data)
        if self.closed:
            return False
        if not self.blocked:
            data = self._write(memoryview(data))
            if not data and not self._host.congestion.paused:
                return True
        if data:
            self._out.append(memoryview(bytes(data)))
            if not self.stalled_since:
                self.stalled_since = self._pump.loop.time()
        if self._host.congestion.paused:
            self._host.congestion.waiting.add(self)
        return False

    def _write(self, data: memoryview) -> memoryview:
        """Send what the peer's window and the network take; the rest."""
        while data and self._send_window and not self._host.congestion.paused:
            size = min(len(data), self._send_window, self._packet_max)
            self._send_window -= size
            # Bytes of its own: asyncssh may keep the packet until new keys are exchanged.
            self._send(MSG_CHANNEL_DATA, UInt32(size), bytes(data[:size]))
            data = data[size:]
        return data

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        if not self.opened or self._close_sent:
            return
        while self._out:
            before = self._out[0]
            rest = self._write(before)
            if len(rest) < len(before):
                self.stalled_since = self._pump.loop.time()
            if rest:
                self._out[0] = rest
                if self._host.congestion.paused:
                    self._host.congestion.waiting.add(self)
                return
            self._out.popleft()
        self.stalled_since = 0.0
        if self._abandoned:
            self._close()
        elif self._ending:
            self._end()
        elif self._host.congestion.paused:
            self._host.congestion.waiting.add(self)
        else:
            self.user.drained()

    # --- the end --------------------------------------------------------------------------------

    def end(self, *, delivered: bool) -> None:
        """No more bytes from this side."""
        if self.closed:
            return
        self._ending = True
        if delivered:
            self._finish()
        if self.opened and not self._out:
            self._end()

    def _end(self) -> None:
        if not self._eof_sent and not self._close_sent:
            self._eof_sent = True
            self._send(MSG_CHANNEL_EOF)
            if self._done:
                self._close()

    def delivered(self) -> None:
        """All bytes of the other side have been passed on, and this side has ended before."""
        if not self.closed:
            self._finish()
            if self._eof_sent:
                self._close()

    def _finish(self) -> None:
        """The user has had everything; what it has sent may still have to go out."""
        self._done = self.closed = True
        self._dismiss()
        self.paused = False

    def cancel(self, code: str) -> None:
        """Abort the stream; what was sent before goes out first, as long as the peer takes it."""
        if self.closed:
            return
        self.closed = self._abandoned = True
        self._dismiss()
        self._in.clear()
        self.paused = False
        if not self.opened:
            self._out.clear()  # an opening cannot be taken back: it is closed once it is answered
        elif self._out:
            self._await_rest(-1, CANCEL_PATIENCE)
        else:
            self._close()

    def _await_rest(self, before: int, patience: float) -> None:
        """Wait for what precedes an abort to go out, for as long as it does."""
        if self._close_sent:
            return
        left = sum(map(len, self._out))
        patience = CANCEL_PATIENCE if left != before else patience - CANCEL_INTERVAL
        if patience <= 0:
            self._close()
        else:
            self._pump.loop.call_later(CANCEL_INTERVAL, self._await_rest, left, patience)

    def lost(self, code: str) -> None:
        """Give the stream up from this side, and tell its user why."""
        if not self.closed:
            user = self.user
            self._out.clear()
            self.cancel(code)
            user.aborted(code)

    def unanswered(self, code: str, what: str) -> None:
        """Nobody answers the opening: to the user that is a refusal."""
        if not self.closed and not self.opened:
            user = self.user
            self.cancel(code)
            user.refused(code, what)

    def _close(self) -> None:
        """Send the close; the number is free once the peer's has come, too."""
        if not self._close_sent:
            self._close_sent = True
            self._out.clear()
            self._host.congestion.waiting.discard(self)
            self._send(MSG_CHANNEL_CLOSE)
        if self._close_received:
            self._release()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._host.remove_channel(self.number)
            self.gone()

    def gone(self) -> None:
        """The channel's number is free, and the channel of no more use to anybody."""
