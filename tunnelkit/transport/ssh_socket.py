"""The socket below an SSH connection, as asyncssh wants to see it.

asyncssh writes each packet by itself, with an empty one before it against attacks on CBC. Here the
writes of one turn of the loop leave together.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket, holds

__all__ = ["SshSocket"]

EAGER = 64 * 1024
"""Bytes that are not held back until the end of the loop's turn: they fill segments as they are."""

MAX_UNSENT = 64 << 20
"""Bytes kept for a peer that takes none, before it is given up. Streams keep what is theirs from the high
water on; what adds up here are answers that the peer asked for and does not read."""


class SshSocket(asyncio.Transport):
    """An asyncio transport over ``sock``, for ``protocol``; ``received`` has been read from it before."""

    def __init__(
        self, pump: Pump, sock: AnySocket, protocol: asyncio.Protocol, *, received: bytes = b""
    ) -> None:
        super().__init__({"socket": sock})
        self._pump = pump
        self._loop: asyncio.AbstractEventLoop = pump.loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._greedy = bool(getattr(sock, "greedy", False))
        self._fresh: list[bytes] = []  # written in this turn of the loop
        self._fresh_size = 0
        self._unsent = bytearray()
        self._blocked = False  # the kernel takes no more
        self._paused = False  # the protocol has been told so
        self._high, self._low = EAGER, EAGER // 4
        self._scheduled = False
        self._failed = False
        self._closing = False
        self._closed = False
        protocol.connection_made(self)
        self._loop.call_soon(self._start, received)

    def _start(self, received: bytes) -> None:
        if self._closed:
            return
        self._pump.poller.add_reader(self._fd, self._readable)
        if received:
            self._protocol.data_received(received)
        if self._greedy:
            self._loop.call_soon(self._readable)

    # --- from the peer --------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._closed or self._failed:
            return
        try:
            count = self._sock.recv_into(self._pump.area)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not count:
            self._protocol.eof_received()
            self._end(None)
            return
        self._protocol.data_received(bytes(self._pump.area[:count]))
        if self._greedy and holds(self._sock):
            self._loop.call_soon(self._readable)

    # --- to the peer ----------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``, at the end of this turn of the loop at the latest."""
        if self._closed or self._closing:
            return
        self._fresh.append(bytes(data))
        self._fresh_size += len(data)
        if self._fresh_size >= EAGER:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._closed or not self._fresh:
            return
        data = b"".join(self._fresh)
        self._fresh.clear()
        self._fresh_size = 0
        if self._blocked:
            self._unsent += data
            if len(self._unsent) > MAX_UNSENT:
                self._loop.call_soon(self._end, TimeoutError("the peer does not read"))
        elif (count := self._send(data)) < len(data):
            self._blocked = True
            self._unsent += memoryview(data)[count:]
            self._pump.poller.add_writer(self._fd, self._writable)
        if len(self._unsent) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._failed = True  # the kernel tells once, and would speak of an end next time
            self._loop.call_soon(self._end, error)  # not while somebody is writing
            return len(data)

    def _writable(self) -> None:
        if self._closed:
            return
        del self._unsent[: self._send(self._unsent)]
        if not self._unsent:
            self._blocked = False
            self._pump.poller.remove_writer(self._fd)
            if self._closing:
                self._end(None)
                return
        if self._paused and len(self._unsent) <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    # --- what else asyncssh asks of a transport -------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Only the socket: by whatever address a host was reached, its key is that of its name."""
        return super().get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bytes for the network at which the protocol is told to pause, and to go on."""
        self._high = EAGER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._fresh_size + len(self._unsent)

    def is_closing(self) -> bool:
        return self._closing or self._closed

    def close(self) -> None:
        """Close once everything has been sent."""
        self._flush()
        self._closing = True
        if not self._blocked:
            self._end(None)

    def abort(self) -> None:
        """Close now; what the kernel takes at once still goes out."""
        self._flush()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._pump.poller.remove_reader(self._fd)
        self._pump.poller.remove_writer(self._fd)
        self._sock.close()
        self._fresh.clear()
        self._unsent.clear()
        self._loop.call_soon(self._protocol.connection_lost, error)
