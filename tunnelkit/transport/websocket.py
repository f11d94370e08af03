"""WebSocket handshakes (RFC 6455 §4) and the control connection, on our own sockets.

``websockets`` does the protocol without I/O; this is the only module that imports it. Its parser
would swallow frames that follow the handshake, so it is fed exactly through the blank line and the
rest is handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a platform without the compiled part
    from websockets.utils import apply_mask

from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket, holds, receive, send_all
from tunnelkit.wire.messages import MAX_MESSAGE, PROTOCOL, Message, encode

__all__ = [
    "Control",
    "Handshake",
    "Refusal",
    "WebSocketProtocol",
    "apply_mask",
    "connect",
    "handshake_accepted",
    "handshake_refused",
]

log = logging.getLogger("tunnelkit")

ERROR_HEADER = "Tunnelkit-Error"
"""Carries the error code of a handshake that the relay refuses; the body says why in words."""

MAX_HANDSHAKE = 16 * 1024
"""Bytes of a handshake's answer; longer ones come from something that is no relay."""

MAX_SHOWN = 300
"""Characters of such an answer that an error shows."""

MAX_UNSENT = 1 << 20
"""Bytes kept for a control connection whose peer reads nothing; beyond, the connection is given up."""

_protocols = [Subprotocol(PROTOCOL)]

_mute = logging.Logger("websockets", logging.CRITICAL + 1)  # noqa: LOG001 - not to be configured
"""``websockets`` would log handshakes and messages at DEBUG, with the tokens and secrets in them."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client's handshake says."""

    host: str
    port: int
    path: str
    secure: bool
    headers: dict[str, str] = field(repr=False)
    """Further ones; they hold the token."""


async def connect(sock: AnySocket, handshake: Handshake) -> tuple[WebSocketProtocol, bytes]:
    """Shake hands over ``sock``; the protocol object, and what came behind the handshake.

    Raises :class:`~tunnelkit.errors.NotARelayError` where the answer is no relay's, and the relay's
    own error where it refuses.
    """
    uri = WebSocketURI(handshake.secure, handshake.host, handshake.port, handshake.path, "", None, None)
    protocol = ClientProtocol(uri, subprotocols=_protocols, max_size=MAX_MESSAGE, logger=_mute)
    request = protocol.connect()
    for name, value in handshake.headers.items():
        request.headers[name] = value
    protocol.send_request(request)
    await send_all(sock, b"".join(protocol.data_to_send()))
    where = f"{handshake.host}:{handshake.port}"
    received = b""
    while b"\r\n\r\n" not in received:
        piece = await receive(sock, 4096)
        received += piece
        if not piece or len(received) > MAX_HANDSHAKE or not received.startswith(b"HTTP/"[: len(received)]):
            raise errors.NotARelayError(f"What answers at {where} is no tunnelkit relay")
    end = received.index(b"\r\n\r\n") + 4
    return protocol, await _take_answer(sock, protocol, received[:end], received[end:], where)


async def _take_answer(
    sock: AnySocket, protocol: ClientProtocol, head: bytes, rest: bytes, where: str
) -> bytes:
    refused = f"\r\n{ERROR_HEADER}:".lower().encode() in head.lower()
    protocol.receive_data(head + rest if refused else head)
    if refused:
        for _ in range(8):  # its few words; what does not come does not matter
            if protocol.handshake_exc is not None or not (piece := await receive(sock, 4096)):
                break
            protocol.receive_data(piece)
        with contextlib.suppress(EOFError):
            protocol.receive_eof()
    error = protocol.handshake_exc
    events = protocol.events_received()
    if error is None and events and isinstance(events[0], Response) and protocol.subprotocol == PROTOCOL:
        return rest
    if isinstance(error, InvalidStatus) and (code := error.response.headers.get(ERROR_HEADER)):
        what, _, hint = bytes(error.response.body or b"").decode("utf-8", "replace").partition("\n")
        raise errors.from_code(_line(code), _line(what), _line(hint) or None)
    detail = str(error) if isinstance(error, InvalidHandshake) else head.partition(b"\r")[0].decode("latin-1")
    raise errors.NotARelayError(f"What answers at {where} is no tunnelkit relay ({_line(detail)})")


def _line(text: str) -> str:
    """``text`` of an unknown server, fit for a terminal."""
    return "".join(filter(str.isprintable, text))[:MAX_SHOWN]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the relay does not accept a handshake."""

    status: int
    error: errors.TunnelkitError


def handshake_accepted(head: bytes) -> tuple[ServerProtocol, bytes]:
    """Answer a client's handshake ``head``: the protocol object, and the bytes to send.

    Raises ProtocolError where ``head`` is no handshake of ours. One with an ``Origin`` comes from a
    web page, which must not speak to a relay on its reader's machine.
    """
    protocol, request = _request(head)
    if "Origin" in request.headers:
        raise errors.ProtocolError("A handshake from a web page")
    response = protocol.accept(request)
    if response.status_code != 101 or protocol.subprotocol != PROTOCOL:
        raise errors.ProtocolError(
            f"A handshake that does not speak {PROTOCOL}",
            hint="Run versions of tunnelkit that match",
        )
    protocol.send_response(response)
    return protocol, b"".join(protocol.data_to_send())


def handshake_refused(refusal: Refusal) -> bytes:
    """The bytes that refuse a handshake."""
    error = refusal.error
    body = f"{error.what}\n{error.hint}\n".encode()
    reason = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}
    return (
        f"HTTP/1.1 {refusal.status} {reason.get(refusal.status, 'Refused')}\r\n"
        f"{ERROR_HEADER}: {error.code}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


def _request(head: bytes) -> tuple[ServerProtocol, Request]:
    protocol = ServerProtocol(subprotocols=_protocols, max_size=MAX_MESSAGE, logger=_mute)
    protocol.receive_data(head)
    events = protocol.events_received()
    if not events or not isinstance(events[0], Request):
        raise errors.ProtocolError("A malformed WebSocket handshake")
    return protocol, events[0]


class Control:
    """A control connection: whole text messages in and out, over ``protocol`` on ``sock``.

    ``on_text(data)`` is called for each message, ``on_lost(code)`` once at the end; ``received``
    came behind the handshake.
    """

    def __init__(
        self,
        pump: Pump,
        sock: AnySocket,
        protocol: WebSocketProtocol,
        *,
        on_text: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._pump = pump
        self._loop: asyncio.AbstractEventLoop = pump.loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._on_text = on_text
        self._on_lost = on_lost
        self._unsent = b""
        self._fragments: list[bytes] = []
        self._greedy = bool(getattr(sock, "greedy", False))
        self.closed = False
        self.silent = 0
        """Liveness checks since anything was heard."""

    def start(self, received: bytes = b"") -> None:
        """Begin to read."""
        self._pump.poller.add_reader(self._fd, self._readable)
        if received:
            self._feed(received)
        if self._greedy:
            self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        if self.closed:
            return
        try:
            count = self._sock.recv_into(self._pump.area)
        except BlockingIOError:
            return
        except OSError:
            self.drop("reset")
            return
        if not count:
            self.drop("closed")
            return
        self._feed(bytes(self._pump.area[:count]))
        if self._greedy and holds(self._sock):
            self._loop.call_soon(self._readable)

    def _feed(self, data: bytes) -> None:
        self.silent = 0
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if self.closed:
                return
            if isinstance(event, Frame):
                self._frame(event)
        self._flush()
        if self._protocol.parser_exc is not None:
            log.warning("control connection ended: %s", self._protocol.parser_exc)
            self.drop("protocol")

    def _frame(self, event: Frame) -> None:
        if event.opcode is Opcode.CLOSE:
            self._flush()
            self.drop("closed")
        elif event.opcode is Opcode.BINARY:
            self.fail(errors.ProtocolError("A binary message on a control connection"))
        elif event.opcode in (Opcode.TEXT, Opcode.CONT):
            if event.data:  # empty ones cost their sender nothing, and would add up here
                self._fragments.append(bytes(event.data))
            if event.fin:
                text = b"".join(self._fragments)
                self._fragments.clear()
                try:
                    self._on_text(text)
                except errors.ProtocolError as error:
                    self.fail(error)

    @property
    def _open(self) -> bool:
        # What came together with a close frame is handled after it: then there is nobody to answer.
        return not self.closed and self._protocol.state is State.OPEN

    def send(self, message: Message) -> None:
        """Send one message; kept if the peer is slow, up to a limit."""
        if self._open:
            self._protocol.send_text(encode(message))
            self._flush()

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._open:
            self._protocol.send_ping(b"")
            self._flush()

    def fail(self, error: errors.TunnelkitError) -> None:
        """End the connection for a named reason."""
        if not self.closed:
            log.warning("control connection ended: %s", error)
            self._protocol.fail(1002, error.what[:120])
            self._flush()
            self.drop(error.code)

    def _flush(self) -> None:
        if self.closed:
            return
        data = b"".join(self._protocol.data_to_send())
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > MAX_UNSENT:
                self.drop("stalled")
            return
        self._unsent = data
        if data:
            self._write()
            if self._unsent and not self.closed:
                self._pump.poller.add_writer(self._fd, self._writable)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
            self._loop.call_soon(self.drop, "reset")

    def _writable(self) -> None:
        self._write()
        if not self._unsent and not self.closed:
            self._pump.poller.remove_writer(self._fd)

    def close(self, reason: str = "") -> None:
        """Say goodbye (RFC 6455 §7) and close; ``on_lost`` is not called."""
        if self._open:
            self._protocol.send_close(1000, reason)
            self._flush()
        if not self.closed:
            self._shut()

    def drop(self, code: str) -> None:
        """The connection is of no more use."""
        if not self.closed:
            self._shut()
            self._on_lost(code)

    def _shut(self) -> None:
        self.closed = True
        self._pump.poller.remove_reader(self._fd)
        self._pump.poller.remove_writer(self._fd)
        self._sock.close()
