"""Two streams joined: what one brings, the other takes on, both ways, until both have ended.

For a relay that passes streams from one agent on to another. Nothing is kept here: a stream that
takes no more stops the other from being read.
"""

from __future__ import annotations

from collections.abc import Callable

from tunnelkit.errors import ProtocolError
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import Stream

__all__ = ["Half", "StreamJoin"]


class Half:
    """The user of one of the two streams, ``near``: passes on to the other, ``far``, what it brings."""

    __slots__ = ("_far", "_join", "_near", "_pump", "flowing", "has_ended", "other", "passed")

    other: Half

    def __init__(self, join: StreamJoin, pump: Pump, near: Stream, far: Stream) -> None:
        self.passed = 0
        """Bytes that have been passed on."""
        self.flowing = True
        """Whether the far stream takes what comes."""
        self.has_ended = False
        self._near = near
        self._far = far
        self._join = join
        self._pump = pump

    def payload(self, data: memoryview | bytes) -> None:
        if self.has_ended:
            raise ProtocolError("Payload behind the end of its direction")
        self.passed += len(data)
        if not self._far.send(data):
            self._stop()

    def splice_in(self, source: int, count: int) -> int:
        """As :meth:`tunnelkit.net.pump.Join.splice_in`."""
        if self.has_ended or not self._far.splices or (pipe := self._pump.pipes.take()) is None:
            return -1
        try:
            moved = pipe.fill(source, count)
        except OSError:
            self._pump.pipes.give(pipe)
            raise
        self.passed += moved
        if not moved or self._far.send_spliced(pipe, moved):
            self._pump.pipes.give(pipe)
        else:
            self._stop()
        return moved

    def _stop(self) -> None:
        self.flowing = False
        self._near.pause()

    def drained(self) -> None:
        """The near stream takes bytes again: the far one may be read."""
        if not self.other.flowing:
            self.other.flowing = True
            self._far.resume()

    def ended(self) -> None:
        self.has_ended = True
        self._far.end(delivered=self.other.has_ended)
        if self.other.has_ended:
            self._near.delivered()
            self._join.done(None)

    def refused(self, code: str, what: str) -> None:
        self.aborted(code)

    def aborted(self, code: str) -> None:
        self._far.cancel(code)
        self._join.done(code)


class StreamJoin:
    """``one`` and ``other``, joined. ``on_done(join, code)`` is called once, at the end.

    :attr:`first` is to be the user of ``one``, :attr:`second` that of ``other``. ``code`` is None
    when both directions ended cleanly, else why not.
    """

    __slots__ = ("_on_done", "_streams", "first", "second")

    def __init__(
        self, pump: Pump, one: Stream, other: Stream, on_done: Callable[[StreamJoin, str | None], None]
    ) -> None:
        self.first = Half(self, pump, one, other)
        self.second = Half(self, pump, other, one)
        self.first.other, self.second.other = self.second, self.first
        self._streams = one, other
        self._on_done = on_done

    def done(self, code: str | None) -> None:
        """Neither stream is this join's any more."""
        self._on_done(self, code)

    def cancel(self, code: str) -> None:
        """Abort from outside."""
        for stream in self._streams:
            stream.cancel(code)
        self._on_done(self, code)
