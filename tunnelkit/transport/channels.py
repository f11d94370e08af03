"""Data channels: one connection that carries one stream at a time, and is used again.

The two sides of the state machine in :mod:`tunnelkit.wire.channel`: who opens streams and who accepts
them, whichever of the two is the WebSocket's client. Whoever uses a stream sees a channel as a
:class:`~tunnelkit.net.stream.Stream`; the session that owns the channel implements
:class:`OpenerOwner` or :class:`AcceptorOwner`.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from tunnelkit.errors import ProtocolError
from tunnelkit.net.framed import Framed
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import StreamUser
from tunnelkit.net.stream_join import Half
from tunnelkit.transport.websocket import apply_mask
from tunnelkit.wire import messages
from tunnelkit.wire.channel import ACCEPTOR_MAY_SEND, OPENER_MAY_SEND, Event, State, advance
from tunnelkit.wire.frames import Opcode, frame

__all__ = ["AcceptorChannel", "AcceptorOwner", "Channel", "OpenerChannel", "OpenerOwner"]

log = logging.getLogger("tunnelkit")

CANCEL_PATIENCE = 5.0
"""Seconds without progress after which the bytes that precede an abort are waited for no longer."""

CANCEL_INTERVAL = 0.05
"""Seconds between looks at whether they have come."""

_encode = messages.encode


class _Nobody:
    """The user of a channel that carries no stream: payload is out of order."""

    def payload(self, data: memoryview | bytes) -> None:
        raise ProtocolError("Payload on a data channel that carries no stream")

    def ended(self) -> None: ...
    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...
    def drained(self) -> None: ...


class _Discard(_Nobody):
    """The user of a stream that nobody wants any more."""

    def payload(self, data: memoryview | bytes) -> None: ...


NOBODY = _Nobody()
DISCARD = _Discard()


class Channel(Framed):
    """What both sides have in common."""

    __slots__ = ("cancelling", "number", "silent", "state", "stream")

    user: StreamUser

    def __init__(
        self, pump: Pump, sock: AnySocket, number: int, *, client: bool, random_mask: bool = False
    ) -> None:
        """``number`` is the agent's name for the channel within its session."""
        super().__init__(pump, sock, client=client, random_mask=random_mask, masker=apply_mask)
        self.number = number
        self.stream = 0
        """Number of the current stream, or of the last one."""
        self.state = State.IDLE
        self.silent = 0
        """Liveness checks since anything was heard."""
        self.user = NOBODY
        self.cancelling = False
        """Whether the current stream is being aborted; the channel is not used again."""

    def _begin(self, stream: int) -> None:
        self.state = advance(self.state, Event.OPEN)
        self.stream = stream
        self.bytes_sent = self.bytes_received = 0

    def use(self, user: StreamUser) -> None:
        """From now on ``user`` is called back."""
        self.user = user
        self.spliced = user if isinstance(user, Join | Half) else None

    def _dismiss(self, user: StreamUser = NOBODY) -> StreamUser:
        """Let go of the current user, and return it."""
        last, self.user, self.spliced = self.user, user, None
        return last

    def _peer_ended(self, event: Event, count: int) -> None:
        if count != self.bytes_received:
            raise ProtocolError(f"A stream of {count} bytes arrived as {self.bytes_received}")
        self.state = advance(self.state, event)
        self.user.ended()

    def cancelled(self, stream: int, code: str, sent: int) -> None:
        """The other side aborts ``stream``, after ``sent`` payload bytes: pass those on first."""
        if stream == self.stream and self.state is not State.IDLE and not self.cancelling:
            self.cancelling = True  # from now on it is not used again
            self._await_rest(code, sent, -1, CANCEL_PATIENCE)

    def _await_rest(self, code: str, sent: int, before: int, patience: float) -> None:
        if self.closed:
            return
        progress = self.bytes_received != before
        patience = CANCEL_PATIENCE if progress else patience - CANCEL_INTERVAL
        if self.bytes_received >= sent or patience <= 0:
            self.lost(code)
            return
        self._pump.loop.call_later(
            CANCEL_INTERVAL, self._await_rest, code, sent, self.bytes_received, patience
        )

    def lost(self, code: str, error: ProtocolError | None = None) -> None:
        """The connection has ended; a stream on it is aborted."""
        if self.closed:
            return
        if error is not None:
            log.warning("data channel %d ended: %s", self.number, error)
        self.close()
        self._dismiss().aborted(code)
        self._gone()

    @abstractmethod
    def _gone(self) -> None:
        """The channel is not the session's any more."""


class OpenerOwner(Protocol):
    """The session of a side that opens streams."""

    def channel_answered(self, channel: OpenerChannel) -> None:
        """The acceptor has answered an ``open``."""

    def channel_free(self, channel: OpenerChannel) -> None:
        """The channel carries no stream any more."""

    def channel_gone(self, channel: OpenerChannel) -> None:
        """The channel has ended."""

    def send(self, message: messages.Message) -> bool:
        """Send on the control connection; False where there is none."""


Opened = Callable[[str], None]
"""Told that the acceptor has taken a stream, and the address it left from if it was told to leave."""


class OpenerChannel(Channel):
    """A data channel as the side has it that opens its streams: a relay, or an agent's egress."""

    __slots__ = ("_busy", "_opened", "idle_since", "owner", "retiring")

    def __init__(
        self,
        pump: Pump,
        sock: AnySocket,
        number: int,
        owner: OpenerOwner,
        *,
        client: bool = False,
        random_mask: bool = False,
    ) -> None:
        super().__init__(pump, sock, number, client=client, random_mask=random_mask)
        self.owner = owner
        self.retiring = False
        self.idle_since = pump.loop.time()
        self._busy = False  # the user has not finished yet
        self._opened: Opened | None = None

    def open(
        self, request: messages.Open, user: StreamUser, payload: bytes = b"", opened: Opened | None = None
    ) -> None:
        """Open a stream, for ``user``, with its first bytes if they are there already.

        ``opened`` is called before the first bytes of the other side come.
        """
        self._begin(request.stream)
        self._busy = True
        self._opened = opened
        self.use(user)
        if payload:
            self.bytes_sent = len(payload)
            self.send_text(_encode(request), frame(payload))
        else:
            self.send_text(_encode(request))

    def text(self, data: bytes) -> None:
        message = messages.decode_channel(data)
        if isinstance(message, messages.End):
            if self.state not in ACCEPTOR_MAY_SEND:
                raise ProtocolError("An end out of order")
            self._peer_ended(Event.ACCEPTOR_END, message.bytes)
        elif isinstance(message, messages.Retire):
            self.retiring = True
            if self.state is State.IDLE and not self._busy:
                self.lost("closed")
        elif message is None:
            pass  # from a newer acceptor
        elif isinstance(message, messages.Open) or message.stream != self.stream:
            raise ProtocolError(f"A {type(message).__name__.lower()} message out of order")
        elif isinstance(message, messages.Ready):
            self.state = advance(self.state, Event.READY)
            self._free()
        elif isinstance(message, messages.Opened):
            self.state = advance(self.state, Event.OPENED)
            self._answered()
            if self._opened is not None and not self.cancelling:
                self._opened(message.source)
        else:
            self._refused(message)

    def _answered(self) -> None:
        if self.bytes_received:
            raise ProtocolError("Payload before the acceptor had taken the stream")
        self.owner.channel_answered(self)

    def _refused(self, message: messages.Error) -> None:
        self.state = advance(self.state, Event.ERROR)
        self._answered()
        self._busy = False
        user = self._dismiss(DISCARD)
        if self.state is State.REFUSED:
            self._end()
        user.refused(message.code, message.what)

    def _end(self) -> None:
        self.state = advance(self.state, Event.OPENER_END)
        self.send_text(_encode(messages.End(self.bytes_sent)))

    def end(self, *, delivered: bool) -> None:
        self._end()
        if delivered:
            self.delivered()

    def delivered(self) -> None:
        self._busy = False
        self._dismiss(DISCARD)
        self.resume()
        self._free()

    def _free(self) -> None:
        if self.state is State.IDLE and not self._busy:
            self._dismiss()
            self.resume()
            if self.retiring or self.cancelling:
                self.lost("closed")
            else:
                self.idle_since = self._pump.loop.time()
                self.owner.channel_free(self)

    def lost(self, code: str, error: ProtocolError | None = None) -> None:
        opening = self.state in (State.OPENING, State.OPENING_ENDED)
        unanswered = opening and not self.cancelling  # an acceptor that cancels has taken the stream
        super().lost("unanswered" if unanswered else code, error)

    def cancel(self, code: str) -> None:
        if not self.closed:
            self._dismiss(DISCARD)
            self.owner.send(messages.Cancel(self.number, self.stream, code, self.bytes_sent))
            self.lost(code)

    def _gone(self) -> None:
        self.owner.channel_gone(self)


class AcceptorOwner(Protocol):
    """The session of a side that accepts streams."""

    def stream_opened(self, channel: AcceptorChannel, request: messages.Open) -> None:
        """A visitor: dial the service, then ``accept`` or ``refuse``."""

    def channel_gone(self, channel: AcceptorChannel) -> None:
        """The channel has ended."""

    def send(self, message: messages.Message) -> bool:
        """Send on the control connection; False where there is none."""


class AcceptorChannel(Channel):
    """A data channel as the side has it that accepts its streams: an agent, or a relay's egress."""

    __slots__ = ("owner",)

    def __init__(
        self,
        pump: Pump,
        sock: AnySocket,
        number: int,
        owner: AcceptorOwner,
        *,
        client: bool = True,
        random_mask: bool = False,
    ) -> None:
        super().__init__(pump, sock, number, client=client, random_mask=random_mask)
        self.owner = owner

    def text(self, data: bytes) -> None:
        message = messages.decode_channel(data)
        match message:
            case messages.Open():
                self._begin(message.stream)
                self.owner.stream_opened(self, message)
            case messages.End():
                if self.state not in OPENER_MAY_SEND:
                    raise ProtocolError("An end out of order")
                self._peer_ended(Event.OPENER_END, message.bytes)
                if self.user is DISCARD and self.state is State.ENDED and not self.cancelling:
                    self._ready()
            case None:
                pass  # from a newer opener
            case _:
                raise ProtocolError(f"A {type(message).__name__.lower()} message out of order")

    def accept(self) -> None:
        """The service is there: payload may flow."""
        self.state = advance(self.state, Event.OPENED)
        # The service's first bytes usually follow at once: one segment for both.
        self.send_soon(_encode(messages.Opened(self.stream)))

    def accept_egress(self, source: str) -> None:
        """As :meth:`accept`, of a destination that was left for from ``source``."""
        self.state = advance(self.state, Event.OPENED)
        # The opener is waited for: its client sends nothing before it knows.
        self.send_text(_encode(messages.Opened(self.stream, source)))

    def refuse(self, code: str, what: str) -> None:
        """The service could not be reached."""
        self.state = advance(self.state, Event.ERROR)
        self._dismiss(DISCARD)
        self.resume()
        self.send_text(_encode(messages.Error(self.stream, code, what)))
        if self.state is State.ENDED:
            self._ready()

    def end(self, *, delivered: bool) -> None:
        self.state = advance(self.state, Event.ACCEPTOR_END)
        text = _encode(messages.End(self.bytes_sent))
        if delivered:
            self._idle()
            ready = _encode(messages.Ready(self.stream))
            self.send_text(text, frame(ready, Opcode.TEXT, self._frame_key(), self._masker))
        else:
            self.send_text(text)

    def delivered(self) -> None:
        self._ready()

    def _ready(self) -> None:
        self._idle()
        self.send_text(_encode(messages.Ready(self.stream)))

    def _idle(self) -> None:
        self.state = advance(self.state, Event.READY)
        self._dismiss()
        self.resume()

    def cancel(self, code: str) -> None:
        """Abort the stream; what was sent before still goes out, and the opener closes the channel.

        Without a control connection, the channel's end has to say it.
        """
        if not self.closed and not self.cancelling:
            self.cancelling = True
            self._dismiss(DISCARD)
            self.resume()
            if not self.owner.send(messages.Cancel(self.number, self.stream, code, self.bytes_sent)):
                self.lost(code)

    def _gone(self) -> None:
        self.owner.channel_gone(self)
