"""A stream over a plain socket: what a proxy has beyond itself, where a tunnel has a data channel.

:class:`PlainStream` is to a destination what a data channel is to a service behind an agent, so that
:class:`~tunnelkit.net.pump.Join` joins a client with either of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tunnelkit.net.pipes import PIPE_SIZE, Pipe
from tunnelkit.net.pump import READ_SIZE, Join, Pump
from tunnelkit.net.stream import StreamUser

__all__ = ["PlainStream"]


class PlainStream:
    """``sock``, connected and non-blocking, as a :class:`~tunnelkit.net.stream.Stream`.

    Nothing is read before :meth:`use` and :meth:`resume`. ``source`` is the address it leaves from.
    ``on_closed`` is called once, when the socket is closed or about to be reset.
    """

    __slots__ = (
        "_bulk",
        "_ending",
        "_failed",
        "_on_closed",
        "_pending",
        "_pipe",
        "_pump",
        "_read_ended",
        "_reading",
        "_sock",
        "_spliced",
        "_unread",
        "_user",
        "closed",
        "fd",
        "source",
        "splices",
        "stalled_since",
    )

    _user: Any

    def __init__(
        self,
        pump: Pump,
        sock: socket.socket,
        source: str = "",
        on_closed: Callable[[PlainStream], object] | None = None,
    ) -> None:
        self.fd = sock.fileno()
        self.source = source
        self.closed = False
        self.splices = pump.splices
        self.stalled_since = 0.0
        self._pump = pump
        self._sock = sock
        self._on_closed = on_closed
        self._spliced: Join | None = None
        self._unread = b""
        self._bulk = False  # the last read filled the buffer: move the next by splice
        self._reading = False
        self._read_ended = False
        self._failed = False  # the peer takes no more; what it has sent is still passed on
        self._pending: bytearray | None = None  # what has to go out next
        self._pipe: Pipe | None = None  # then what is in here
        self._ending: Callable[[], object] | None = None  # then this

    def use(self, user: StreamUser) -> None:
        self._user = user
        self._spliced = user if self.splices and isinstance(user, Join) else None

    # --- receiving ------------------------------------------------------------------------------

    def unread(self, data: bytes) -> None:
        """``data`` has been received from the socket already, by a handshake: begin with it."""
        self._unread = data

    def resume(self) -> None:
        if not (self._reading or self._read_ended or self.closed):
            self._reading = True
            self._pump.poller.add_reader(self.fd, self._readable)
            if self._unread:
                self._pump.loop.call_soon(self._give_unread)
            if not self._blocked:
                self._pump.unwatch(self)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
            self._pump.watch(self)

    def _give_unread(self) -> None:
        data, self._unread = self._unread, b""
        if data and self._reading:
            self._user.payload(data)
        else:
            self._unread = data

    def _readable(self) -> None:
        if self._unread:
            self._give_unread()
            return
        try:
            if self._bulk and self._splice_in():
                return
            count = self._sock.recv_into(self._pump.area)
        except BlockingIOError:
            return
        except OSError:
            self._lost("reset")
            return
        if not count:
            self._read_end()
            return
        self._bulk = count == READ_SIZE and self._spliced is not None
        self._user.payload(self._pump.area[:count])

    def _splice_in(self) -> bool:
        """Move what has come through the user's pipe; False where there is none to be had: copy."""
        assert self._spliced is not None
        self._bulk = False
        moved = self._spliced.splice_in(self.fd, PIPE_SIZE)
        if moved < 0:
            return False
        if not moved:
            self._read_end()
        self._bulk = moved >= READ_SIZE
        return True

    def _read_end(self) -> None:
        self._read_ended = True
        self.pause()  # and stay on watch: a reset may still follow
        if self._failed:
            self._lost("reset")
        else:
            self._user.ended()

    # --- sending --------------------------------------------------------------------------------

    @property
    def _blocked(self) -> bool:
        return self._pending is not None or self._pipe is not None

    def send(self, data: bytes | memoryview) -> bool:
        if self._pending is not None:
            self._pending += data
            return False
        if self._failed:
            return True
        try:
            count = self._sock.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self._send_failed()
            return True
        if count == len(data):
            return True
        self._pending = bytearray(data[count:])
        self._block()
        return False

    def send_buffered(self, count: int) -> bool:
        return self.send(self._pump.area[:count])

    def send_spliced(self, pipe: Pipe, count: int) -> bool:
        if self._failed:
            self._discard(pipe)
            return False
        try:
            if pipe.drain(self.fd):
                return True
        except OSError:
            self._send_failed()
            self._discard(pipe)
            return False
        self._pipe = pipe
        self._block()
        return False

    def _discard(self, pipe: Pipe) -> None:
        """Throw away what is in the pipe, which is ours now, and let the user go on."""
        self._pump.pipes.give(pipe)
        self._pump.loop.call_soon(self._went_on)

    def _went_on(self) -> None:
        if not self.closed:
            self._user.drained()

    def _block(self) -> None:
        self.stalled_since = self._pump.loop.time()
        self._pump.poller.add_writer(self.fd, self._writable)
        self._pump.watch(self)

    def _writable(self) -> None:
        try:
            if self._pending is not None:
                del self._pending[: self._sock.send(self._pending)]
                if not self._pending:
                    self._pending = None
            elif self._pipe is not None:
                before = self._pipe.held
                if self._pipe.drain(self.fd):
                    self._pump.pipes.give(self._pipe)
                    self._pipe = None
                elif self._pipe.held == before:
                    return
        except BlockingIOError:
            return
        except OSError:
            self._send_failed()
        if self._blocked:
            self.stalled_since = self._pump.loop.time()
            return
        self._flowing()

    def _flowing(self) -> None:
        """Nothing waits for the peer any more."""
        self.stalled_since = 0.0
        self._pump.poller.remove_writer(self.fd)
        if self._reading:
            self._pump.unwatch(self)
        if self._ending is not None:
            then, self._ending = self._ending, None
            then()
        else:
            self._user.drained()

    def _send_failed(self) -> None:
        """The peer takes no more. What it has sent is passed on before the failure is."""
        self._failed = True
        self._pending = None
        self._give_pipe()
        if self._read_ended:  # there is nothing to pass on; the caller is in the midst of something
            self._pump.loop.call_soon(self._lost, "reset")

    # --- the end --------------------------------------------------------------------------------

    def end(self, *, delivered: bool) -> None:
        self._once_sent(self._close if delivered else self._shut)

    def delivered(self) -> None:
        self._once_sent(self._close)

    def _once_sent(self, then: Callable[[], object]) -> None:
        if self._blocked:
            self._ending = then
        else:
            then()

    def _shut(self) -> None:
        if not self._failed:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._send_failed()

    def _close(self) -> None:
        if not self.closed:
            self._release()
            self._sock.close()

    def cancel(self, code: str) -> None:
        if not self.closed:
            self._release()
            self._pump.reset(self._sock)

    def _lost(self, code: str) -> None:
        """The connection is of no more use."""
        if not self.closed:
            # Whose last bytes are still on their way has had everything, and left.
            user = None if self._ending == self._close else self._user
            self.cancel(code)
            if user is not None:
                user.aborted(code)

    def _release(self) -> None:
        self.closed = True
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
        if self._blocked:
            self._pump.poller.remove_writer(self.fd)
        self._pump.unwatch(self)
        self._pending = self._ending = None
        self._give_pipe()
        self._user = self._spliced = None  # or the two would be a cycle for the garbage collector
        if self._on_closed is not None:
            self._on_closed(self)

    def _give_pipe(self) -> None:
        if self._pipe is not None:
            self._pump.pipes.give(self._pipe)
            self._pipe = None

    # --- watched by the pump --------------------------------------------------------------------

    def watched_fd(self) -> int:
        return self.fd

    def broken(self) -> None:
        if self._read_ended:
            self._lost("reset")
        else:  # what has come before is still to be read, and then the failure
            blocked = self._blocked
            self._send_failed()
            if blocked:
                self._flowing()
            self._pump.unwatch(self)

    def stalled(self) -> None:
        self._lost("stalled")
