"""The answer to a probe, given on this side: a stock SSH client has none to give."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_EOF
from asyncssh.packet import SSHPacket, String

from tunnelkit.transport.ssh_channel import PACKET_SIZE, WINDOW, Congestion, SshStream

__all__ = ["answer_probe"]


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
        self._stream.process_packet(MSG_CHANNEL_DATA, 0, SSHPacket(String(answer)))
        self._stream.process_packet(MSG_CHANNEL_EOF, 0, SSHPacket(b""))


def answer_probe(stream: SshStream, loop: asyncio.AbstractEventLoop, answer: bytes) -> None:
    """Let ``stream``, which is not opened yet, bring ``answer`` and end, without the peer."""
    responder = _Responder(stream, loop)
    stream.rehost(responder)
    loop.call_soon(responder.speak, answer)
