"""The hot loop: bytes between a plain socket and a stream, both ways, until both have ended.

A :class:`Pump` belongs to one event loop and owns what all its connections share: one receive
buffer, the pool of pipes, and the watch over connections that wait. A :class:`Join` is one visitor
or service connection joined with its stream. Callbacks on raw non-blocking sockets do the work; an
open connection that is idle holds no buffer at all.

The buffer is never shared between loops: ``recv_into`` releases the interpreter lock, and two
threads that shared one would deliver each other's bytes.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol

from tunnelkit.net.pipes import PIPE_SIZE, Pipe, Pipes, available
from tunnelkit.net.poller import make_poller
from tunnelkit.net.sockets import AnySocket, hard_close, holds, unsent
from tunnelkit.net.stream import Stream
from tunnelkit.wire.frames import MAX_HEADER

__all__ = ["HEADROOM", "READ_SIZE", "STALL_TIMEOUT", "Join", "Pump", "Watched"]

HEADROOM = MAX_HEADER
"""Bytes in front of what is received, so that a frame header and its payload leave as one slice."""

READ_SIZE = 64 * 1024 - 16
"""Bytes of one receive. More gains nothing over splice; with its frame header it is four records of TLS."""

STALL_TIMEOUT = 300.0
"""Seconds for which a peer may take no byte of what waits for it before its stream is aborted: far
longer than a laptop's nap on a train, short enough that abandoned connections do not pile up."""

WATCH_INTERVAL = 1.0
"""Seconds between looks at the connections that wait: a descriptor that is not read reports no reset."""

FLUSH_TIMEOUT = 5.0
"""Seconds a reset waits for what was sent before it, which the kernel would throw away with it."""

FLUSH_INTERVAL = 0.05
"""Seconds between looks at whether the kernel has sent it."""


class Watched(Protocol):
    """A connection that waits and is looked after by the pump."""

    stalled_since: float
    """Loop time at which the peer last took something; 0 while nothing waits for it."""

    def watched_fd(self) -> int: ...

    def broken(self) -> None:
        """The connection has been reset by its peer."""

    def stalled(self) -> None:
        """The peer has taken nothing for the stall time-out."""


class Pump:
    """What the connections of one event loop share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        splice: bool | None = None,
        stall_timeout: float = STALL_TIMEOUT,
    ) -> None:
        """``splice``: None uses splice(2) where the platform has it; False never does."""
        self.loop = loop
        self.stall_timeout = stall_timeout
        self.buffer = bytearray(HEADROOM + READ_SIZE)
        self.memory = memoryview(self.buffer)
        self.area = self.memory[HEADROOM:]
        """Where to receive into; ``memory`` is the same with the headroom in front."""
        self.splices = available if splice is None else splice and available
        self.pipes = Pipes() if self.splices else Pipes(0)
        self.poller = make_poller(loop)
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._resets: dict[AnySocket, asyncio.TimerHandle] = {}

    def reset(self, sock: AnySocket, patience: float = FLUSH_TIMEOUT) -> None:
        """Close ``sock`` so that its peer sees a failure, once it has what was sent before."""
        self._resets.pop(sock, None)
        if patience > 0 and unsent(sock):
            again = self.loop.call_later(FLUSH_INTERVAL, self.reset, sock, patience - FLUSH_INTERVAL)
            self._resets[sock] = again
        else:
            hard_close(sock)

    def watch(self, connection: Watched) -> None:
        """Look after ``connection`` until :meth:`unwatch`."""
        self._watched.add(connection)
        if self._timer is None:
            self._timer = self.loop.call_later(WATCH_INTERVAL, self._look)

    def unwatch(self, connection: Watched) -> None:
        self._watched.discard(connection)

    def _look(self) -> None:
        self._timer = None
        poll = select.poll()
        by_fd = {}
        for connection in self._watched:
            fd = connection.watched_fd()
            by_fd[fd] = connection
            poll.register(fd, 0)  # errors are reported whatever is asked for
        for fd, event in poll.poll(0):
            if event & select.POLLERR:
                by_fd[fd].broken()
        latest = self.loop.time() - self.stall_timeout
        for connection in list(self._watched):
            if 0 < connection.stalled_since < latest:
                connection.stalled()
        if self._watched:
            self._timer = self.loop.call_later(WATCH_INTERVAL, self._look)

    def close(self) -> None:
        """Give up what is held; connections have ended before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock, timer in self._resets.items():
            timer.cancel()
            hard_close(sock)
        self._resets.clear()
        self.pipes.close()
        self.poller.close()


class Join:
    """A plain socket joined with a stream; ``on_done(join, code)`` is called once, at the end.

    ``code`` is None when both directions ended cleanly and every byte was passed on, else why not:
    ``reset`` (the plain side broke), ``stalled``, or what the other side said. The plain socket is
    closed by then; after a failure it is reset, so that its peer sees a failure too.
    """

    __slots__ = (
        "_bulk",
        "_ending",
        "_failure",
        "_greedy",
        "_on_done",
        "_pending",
        "_pipe_in",
        "_pipe_out",
        "_pump",
        "_read_ended",
        "_reading",
        "_write_ended",
        "_writing",
        "fd",
        "received",
        "sent",
        "sock",
        "stalled_since",
        "stream",
    )

    def __init__(
        self,
        pump: Pump,
        sock: AnySocket,
        stream: Stream,
        on_done: Callable[[Join, str | None], None],
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.stream = stream
        self.received = 0
        self.sent = 0
        self.stalled_since = 0.0
        self._pump = pump
        self._on_done = on_done
        self._greedy = bool(getattr(sock, "greedy", False))
        self._bulk = False  # the last read filled the buffer: move the next by splice
        self._reading = False
        self._read_ended = False
        self._writing = True  # the plain socket takes what comes; False: something is pending
        self._write_ended = False
        self._ending = False  # the stream has ended, what is pending has still to go out
        self._failure: str | None = None  # writing failed, or the stream did: what remains is discarded
        self._pending: bytearray | None = None
        self._pipe_in: Pipe | None = None  # stream to plain
        self._pipe_out: Pipe | None = None  # plain to stream

    def read_early(self) -> bytes:
        """What the plain side has sent already, before :meth:`start`: it travels with the opening."""
        try:
            count = self.sock.recv_into(self._pump.area)
        except OSError:
            return b""  # nothing yet; or broken, which the first read will tell
        self.received += count
        return bytes(self._pump.area[:count])

    def start(self, received: bytes = b"") -> None:
        """Begin; ``received`` is what has already been read from the plain socket."""
        if received:
            self.received += len(received)
            if not self.stream.send(received):
                self._stop_reading()
                return
        self._read_more()

    # --- plain to stream ------------------------------------------------------------------------

    def _read_more(self) -> None:
        self._reading = True
        self._pump.poller.add_reader(self.fd, self._readable)
        if self._greedy:
            self._pump.loop.call_soon(self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
        self._pump.watch(self)

    def _readable(self) -> None:
        if not self._reading:
            return  # a greedy read that was scheduled before reading stopped
        try:
            if self._bulk and self._splice_out():
                return
            count = self.sock.recv_into(self._pump.area)
        except BlockingIOError:
            return
        except OSError:
            self._fail("reset")
            return
        if not count:
            self._read_end()
            return
        self.received += count
        if not self.stream.send_buffered(count):
            self._stop_reading()
        elif self._greedy:
            if holds(self.sock):
                self._pump.loop.call_soon(self._readable)
        elif count == READ_SIZE and self.stream.splices:
            self._bulk = True

    def _splice_out(self) -> bool:
        """Move a pipe full to the stream; False where no pipe is to be had: copy."""
        pipe = self._pipe_out or self._pump.pipes.take()
        self._bulk = False
        if pipe is None:
            return False
        self._pipe_out = pipe
        try:
            count = pipe.fill(self.fd, PIPE_SIZE)
        except BlockingIOError:
            self._give_pipe_out()
            return True
        except OSError:
            self._fail("reset")
            return True
        if not count:
            self._read_end()
            return True
        self.received += count
        self._bulk = count >= READ_SIZE
        if self.stream.send_spliced(pipe, count):
            self._give_pipe_out()  # this may have been the last for a long time
        else:
            self._pipe_out = None
            self._stop_reading()
        return True

    def _give_pipe_out(self) -> None:
        if self._pipe_out is not None:
            self._pump.pipes.give(self._pipe_out)
            self._pipe_out = None

    def _read_end(self) -> None:
        self._stop_reading()  # and stay on watch: a reset may still follow
        self._read_ended = True
        self._give_pipe_out()
        if self._failure is not None:
            self._abort(self._failure)
            return
        self.stream.end(delivered=self._write_ended)
        if self._write_ended:
            self._finish()

    def drained(self) -> None:
        """The stream takes bytes again."""
        if not self._read_ended and not self._reading:
            if self._writing:
                self._pump.unwatch(self)
            self._read_more()

    # --- stream to plain ------------------------------------------------------------------------

    def payload(self, data: memoryview | bytes) -> None:
        """Bytes from the stream: send them, keep what the socket does not take."""
        self.sent += len(data)
        if self._pending is not None:
            self._pending += data
            return
        if self._failure is not None:
            return
        try:
            count = self.sock.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self._write_failed()
            return
        if count < len(data):
            self._pending = bytearray(data[count:])
            self._stop_writing()

    def splice_in(self, source: int, count: int) -> int:
        """Move up to ``count`` payload bytes from socket ``source``; how many, 0 at its end.

        -1 where no pipe is to be had, or writing has failed: receive and call :meth:`payload`. Raises
        BlockingIOError where nothing has arrived, OSError where ``source`` broke.
        """
        if self._failure is not None:
            return -1
        if (pipe := self._pump.pipes.take()) is None:
            return -1
        try:
            moved = pipe.fill(source, count)
        except OSError:
            self._pump.pipes.give(pipe)
            raise
        self._pipe_in = pipe
        self.sent += moved
        try:
            if pipe.drain(self.fd):
                self._give_pipe_in()  # perhaps the last for long
            else:
                self._stop_writing()
        except OSError:
            self._write_failed()
        return moved

    def _give_pipe_in(self) -> None:
        if self._pipe_in is not None:
            self._pump.pipes.give(self._pipe_in)
            self._pipe_in = None

    def _stop_writing(self) -> None:
        self._writing = False
        self.stalled_since = self._pump.loop.time()
        self.stream.pause()
        self._pump.poller.add_writer(self.fd, self._writable)
        self._pump.watch(self)

    def _writable(self) -> None:
        try:
            if self._pending is not None:
                count = self.sock.send(self._pending)
                del self._pending[:count]
                if self._pending:
                    self.stalled_since = self._pump.loop.time()
                    return
                self._pending = None
            if self._pipe_in is not None:
                before = self._pipe_in.held
                if not self._pipe_in.drain(self.fd):
                    if self._pipe_in.held < before:
                        self.stalled_since = self._pump.loop.time()
                    return
                self._give_pipe_in()
        except BlockingIOError:
            return
        except OSError:
            self._write_failed()
            return
        self._resume_writing()
        if self._failure is not None:
            self._abort(self._failure)
        else:
            self.stream.resume()
            if self._ending:
                self._write_end()

    def _resume_writing(self) -> None:
        self._writing = True
        self.stalled_since = 0.0
        self._pump.poller.remove_writer(self.fd)
        if self._reading:
            self._pump.unwatch(self)

    def ended(self) -> None:
        """The stream's other side has ended its direction."""
        if not self._writing:
            self._ending = True
        elif self._failure is None:
            self._write_end()

    def _write_end(self) -> None:
        try:
            if not self._read_ended or self._greedy:
                self.sock.shutdown(1)  # otherwise closing does it
        except BlockingIOError:  # TLS whose close_notify does not fit in yet
            self._ending = True
            self._pending = bytearray()
            self._stop_writing()
            return
        except OSError:
            self._write_failed()
            return
        self._write_ended = True
        self._give_pipe_in()
        if self._read_ended:
            self.stream.delivered()
            self._finish()

    def _write_failed(self) -> None:
        """The plain peer takes no more. What it has sent is still passed on before the failure is."""
        self._failure = "reset"
        self._pending = None
        self._give_pipe_in()
        if not self._writing:
            self._resume_writing()
            self.stream.resume()
        if self._read_ended:
            self._abort("reset")

    # --- the end --------------------------------------------------------------------------------

    def refused(self, code: str, what: str) -> None:
        """The other side could not reach the service."""
        self.aborted(code)

    def aborted(self, code: str) -> None:
        """The stream is gone. What has come of it goes out before the plain socket is reset."""
        if self._failure is None and not self._writing:
            self._failure = code
            self._stop_reading()
        else:
            self._close(code)

    @property
    def flowing(self) -> bool:
        """Whether the plain socket takes what comes from the stream."""
        return self._writing

    def hold(self) -> None:
        """The stream is gone but may be replaced: leave the plain side as it is for now."""
        if self._reading:
            self._stop_reading()

    def go_on(self) -> None:
        """:attr:`stream` is another one; nothing had passed."""
        if self._read_ended:
            self.stream.end(delivered=False)
        else:
            self.drained()

    def watched_fd(self) -> int:
        return self.fd

    def broken(self) -> None:
        """The plain peer has reset the connection."""
        if self._failure is None or self._read_ended:
            self._fail("reset")

    def stalled(self) -> None:
        self._fail("stalled")

    def cancel(self, code: str) -> None:
        """Abort from outside: both the stream and the plain connection."""
        self._fail(code)

    def _fail(self, code: str) -> None:
        self._abort(self._failure or code)

    def _abort(self, code: str) -> None:
        self.stream.cancel(code)
        self._close(code)

    def _finish(self) -> None:
        self._release()
        self.sock.close()
        self._on_done(self, None)

    def _close(self, code: str) -> None:
        self._release()
        self._pump.reset(self.sock)
        self._on_done(self, code)

    def _release(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
        if not self._writing:
            self._pump.poller.remove_writer(self.fd)
        self._pump.unwatch(self)
        self._give_pipe_in()
        self._give_pipe_out()
