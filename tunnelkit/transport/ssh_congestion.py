"""When the network below an SSH connection takes no more, its streams wait, and go on together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tunnelkit.transport.ssh_channel import SshStream

__all__ = ["HIGH_WATER", "LOW_WATER", "ChannelHost", "Congestion"]

HIGH_WATER = 512 * 1024
LOW_WATER = 128 * 1024
"""Bytes for the network at which the streams of a connection stop, and go on. At a few system calls'
worth, a fast stream does not stop at each turn of the loop."""


class ChannelHost(Protocol):
    """asyncssh's connection, as its channels see it. ``congestion`` is ours."""

    congestion: Congestion

    def add_channel(self, chan: Any) -> int: ...
    def remove_channel(self, recv_chan: int) -> None: ...
    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None: ...


class Congestion:
    """Whether a connection's network takes more, and who waits for it."""

    def __init__(self) -> None:
        self.paused = False
        self.waiting: set[SshStream] = set()

    def resume(self) -> None:
        """The network takes bytes again."""
        self.paused = False
        waiting, self.waiting = self.waiting, set()
        for stream in waiting:
            if self.paused:
                self.waiting.add(stream)
            else:
                stream.flush()
