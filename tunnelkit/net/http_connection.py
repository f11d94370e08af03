"""A client's HTTP connection as a socket, whatever is said on it: a visitor's, or one of a proxy's clients.

Reading is switched on and off; what the visitor does not take is kept, in one buffer, until it does.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket, holds

__all__ = ["HttpConnection"]


class HttpConnection(ABC):
    """See the module. Subclasses say what to do with what arrives, and whom to make wait."""

    __slots__ = (
        "_after_flush",
        "_again",
        "_greedy",
        "_pending",
        "_pump",
        "_reading",
        "_sock",
        "fd",
        "stalled_since",
    )

    def __init__(self, pump: Pump, sock: AnySocket) -> None:
        self.fd = sock.fileno()
        self.stalled_since = 0.0
        self._pump = pump
        self._sock = sock
        self._greedy = bool(getattr(sock, "greedy", False))
        self._again = False  # a look at what a greedy socket holds is to come
        self._reading = False
        self._pending: bytearray | None = None  # to be sent
        self._after_flush: Callable[[], None] | None = None  # what to do once all of that is out

    # --- receiving ------------------------------------------------------------------------------

    def _read(self) -> None:
        if not self._reading:
            self._reading = True
            self._pump.poller.add_reader(self.fd, self._take if self._greedy else self._readable)
            if self._greedy:
                self._take_again()
            if self._pending is None:
                self._pump.unwatch(self)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
            self._pump.watch(self)

    def _take(self) -> None:
        """As :meth:`_readable`, of a socket that may hold more than its descriptor reports."""
        self._again = False
        if self._reading:
            self._readable()
            self._take_again()

    def _take_again(self) -> None:
        if self._reading and not self._again and holds(self._sock):
            self._again = True
            self._pump.loop.call_soon(self._take)

    @abstractmethod
    def _readable(self) -> None:
        """There is something to receive."""

    # --- sending --------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send to the visitor; what it does not take is kept, and the service made to wait."""
        if self._pending is not None:
            self._pending += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._pump.loop.call_soon(self.abort)  # the caller is in the midst of something
            return
        if sent < len(data):
            self._pending = bytearray(data[sent:])
            self.stalled_since = self._pump.loop.time()
            self._blocked()
            self._pump.poller.add_writer(self.fd, self._writable)
            self._pump.watch(self)

    def _writable(self) -> None:
        assert self._pending is not None
        try:
            del self._pending[: self._sock.send(self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        self.stalled_since = self._pump.loop.time()
        if self._pending:
            return
        self._pending = None
        self.stalled_since = 0.0
        self._pump.poller.remove_writer(self.fd)
        if self._reading:
            self._pump.unwatch(self)
        if self._after_flush is not None:
            then, self._after_flush = self._after_flush, None
            then()
        else:
            self._flushed()

    def _once_flushed(self, then: Callable[[], None]) -> None:
        """Do ``then`` once all is out, and take in nothing until then."""
        if self._pending is None:
            then()
        else:
            self._pause()
            self._after_flush = then

    def _end_sending(self, then: Callable[[], None]) -> None:
        """End the sending direction, and do ``then`` once the end is out. OSError where it cannot be."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:  # TLS whose close_notify does not fit in yet
            self._pending = bytearray()
            self._after_flush = then
            self.stalled_since = self._pump.loop.time()
            self._pump.poller.add_writer(self.fd, self._writable)
            self._pump.watch(self)
        else:
            then()

    @abstractmethod
    def _blocked(self) -> None:
        """The visitor takes no more for now."""

    @abstractmethod
    def _flushed(self) -> None:
        """It has taken everything."""

    # --- the end --------------------------------------------------------------------------------

    def _release(self) -> None:
        """Have nothing more to do with the socket, which stays open."""
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
        if self._pending is not None:
            self._pump.poller.remove_writer(self.fd)
        self._pump.unwatch(self)

    @abstractmethod
    def abort(self) -> None:
        """End at once: the visitor sees that what it has is not all there is."""

    def watched_fd(self) -> int:
        return self.fd

    def broken(self) -> None:
        self.abort()

    def stalled(self) -> None:
        self.abort()
