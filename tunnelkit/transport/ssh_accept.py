"""Streams that the peer opens: visitors at an agent, and at a relay what is to leave by it.

A stock client asks for a connection with ``direct-tcpip`` (RFC 4254 §7.2), which is what ``ssh -L``, ``-W``
and ``-D`` do; our own side with an ``open`` message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from asyncssh import ProtocolError
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED, OPEN_RESOURCE_SHORTAGE
from asyncssh.packet import SSHPacket

from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.transport.ssh_answers import opened_text, refusal_text
from tunnelkit.transport.ssh_channel import PACKET_SIZE, WINDOW, SshStream
from tunnelkit.transport.ssh_congestion import ChannelHost
from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.messages import Open, decode_channel

__all__ = ["AcceptedSshStream", "AcceptingHost", "direct_request", "stream_request"]

_REASONS = {
    "destination_denied": OPEN_ADMINISTRATIVELY_PROHIBITED,
    "exit_not_allowed": OPEN_ADMINISTRATIVELY_PROHIBITED,
    "no_exit": OPEN_ADMINISTRATIVELY_PROHIBITED,
    "limit": OPEN_RESOURCE_SHORTAGE,
}
"""What a stock client shows a person for our codes; for the rest, that connecting failed."""


class AcceptingHost(ChannelHost, Protocol):
    """asyncssh's connection, as streams see it that it has been asked for."""

    def send_channel_open_confirmation(
        self, send_chan: int, recv_chan: int, recv_window: int, recv_pktsize: int, *result_args: bytes
    ) -> None: ...
    def send_channel_open_failure(self, send_chan: int, code: int, reason: str, lang: str) -> None: ...


def stream_request(packet: SSHPacket) -> Open:
    """What a peer of our own asks for."""
    text = packet.get_string()
    packet.check_end()
    try:
        message = decode_channel(text)
    except errors.ProtocolError as error:
        raise ProtocolError(error.what) from None
    if not isinstance(message, Open):
        raise ProtocolError("A stream that is none")
    return message


def direct_request(packet: SSHPacket) -> Open:
    """Where a stock client wants to go. Where it comes from is an address of its own machine."""
    host, port = packet.get_string(), packet.get_uint32()
    packet.get_string()
    packet.get_uint32()
    packet.check_end()
    try:
        name = host.decode("ascii")
    except UnicodeDecodeError:
        name = ""  # a name that is none is refused, and not the connection ended
    return Open(0, 0, "", target=str(Endpoint(name, port)) if name else "")


class AcceptedSshStream(SshStream):
    """``on_open(stream, request)`` gets it once it can be answered, ``on_gone(stream)`` when it is over.

    ``tells``: whether the peer wants to hear from where its stream leaves; a stock client breaks off.
    """

    __slots__ = ("_acceptor", "_on_gone", "_on_open", "_tells", "request")

    def __init__(
        self,
        pump: Pump,
        host: AcceptingHost,
        request: Open,
        *,
        on_open: Callable[[AcceptedSshStream, Open], None],
        on_gone: Callable[[AcceptedSshStream], None],
        tells: bool = True,
        window: int = WINDOW,
    ) -> None:
        super().__init__(pump, host, window)
        self.request = request
        self._acceptor = host
        self._on_open = on_open
        self._on_gone = on_gone
        self._tells = tells

    def process_open(self, send_chan: int, send_window: int, send_pktsize: int, session: object) -> None:
        """asyncssh: the channel has a number now."""
        self._established(send_chan, send_window, send_pktsize)
        self._on_open(self, self.request)

    def accept(self) -> None:
        """The service is there: payload may flow."""
        self._accept()

    def accept_egress(self, source: str) -> None:
        """As :meth:`accept`, of a destination that was left for from ``source``."""
        if self._tells:
            self._accept(opened_text(source))
        else:
            self._accept()

    def _accept(self, *said: bytes) -> None:
        if not self.closed:
            self.opened = True
            self._acceptor.send_channel_open_confirmation(
                self._peer, self.number, self._recv_window, PACKET_SIZE, *said
            )

    def refuse(self, code: str, what: str) -> None:
        """The far end could not be reached."""
        if self.closed:
            return
        self.closed = self._close_sent = self._close_received = True
        self._dismiss()
        self._acceptor.send_channel_open_failure(
            self._peer, _REASONS.get(code, OPEN_CONNECT_FAILED), refusal_text(code, what), ""
        )
        self._release()

    def cancel(self, code: str) -> None:
        if self.opened:
            super().cancel(code)
        else:
            self.refuse(code, "It was given up")

    def gone(self) -> None:
        self._on_gone(self)
