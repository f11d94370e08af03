"""Streams that the relay opens: to an agent, to a stock client, or to nobody, where a probe has come.

A stock client has no answer to a probe, so that it is given on this side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_EOF
from asyncssh.packet import Byte, SSHPacket, String, UInt32

from tunnelkit.net.pump import Pump
from tunnelkit.transport.ssh_channel import PACKET_SIZE, STREAM_TYPE, WINDOW, SshStream
from tunnelkit.transport.ssh_congestion import ChannelHost, Congestion

__all__ = ["RelayStream", "answer_probe"]


class RelayStream(SshStream):
    """A stream that the relay opens; ``on_answered`` and ``on_gone`` are its session's."""

    __slots__ = ("_on_answered", "_on_gone")

    def __init__(
        self,
        pump: Pump,
        connection: ChannelHost,
        window: int,
        on_answered: Callable[[RelayStream], None],
        on_gone: Callable[[RelayStream], None],
    ) -> None:
        super().__init__(pump, connection, window)
        self._on_answered = on_answered
        self._on_gone = on_gone

    def ask_agent(self, request: bytes) -> None:
        """Open a stream to an agent: ``request`` is an ``open`` message."""
        self._request(STREAM_TYPE, String(request))

    def ask_client(self, host: str, port: int, visitor: tuple[str, int]) -> None:
        """Open a connection that came to ``host`` and ``port`` (RFC 4254 §7.2)."""
        address, number = visitor
        self._request("forwarded-tcpip", String(host) + UInt32(port) + String(address) + UInt32(number))

    def answered(self) -> None:
        self._on_answered(self)

    def gone(self) -> None:
        self._on_gone(self)


class _Responder:
    """A connection whose other end opens the channel, says its text, and closes when we do."""

    def __init__(self, stream: SshStream, loop: asyncio.AbstractEventLoop) -> None:
        self.congestion = Congestion()
        self._stream = stream
        self._loop = loop
        self._closed = False

    def add_channel(self, chan: Any) -> int:
        return 0

    def remove_channel(self, recv_chan: int) -> None:
        self._closed = True

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if pkttype in (MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE):
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.process_packet(MSG_CHANNEL_CLOSE, 0, SSHPacket(b""))

    def speak(self, answer: bytes) -> None:
        if self._closed:
            return
        self._stream.process_open_confirmation(0, WINDOW, PACKET_SIZE, SSHPacket(b""))
        packet = SSHPacket(Byte(MSG_CHANNEL_DATA) + UInt32(0) + String(answer))
        packet.get_bytes(5)
        self._stream.process_packet(MSG_CHANNEL_DATA, 0, packet)
        self._stream.process_packet(MSG_CHANNEL_EOF, 0, SSHPacket(b""))


def answer_probe(stream: SshStream, loop: asyncio.AbstractEventLoop, answer: bytes) -> None:
    """Let ``stream``, which is not opened yet, bring ``answer`` and end, without the peer."""
    responder = _Responder(stream, loop)
    stream.rehost(responder)
    loop.call_soon(responder.speak, answer)
