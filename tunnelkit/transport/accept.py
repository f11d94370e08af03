"""What those have in common who accept streams: waiting for the far end, and counting what passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tunnelkit.net.pump import READ_SIZE, Join
from tunnelkit.net.stream import Stream, StreamUser

__all__ = ["AcceptedStream", "Early", "Traffic", "answer_probe"]


class AcceptedStream(Stream, Protocol):
    """A stream as it comes to the side that did not open it: ``accept`` or ``refuse`` it, once."""

    user: StreamUser
    closed: bool

    def accept(self) -> None:
        """The service is there: payload may flow."""

    def accept_egress(self, source: str) -> None:
        """As :meth:`accept`, of a destination that was left for from ``source``."""

    def refuse(self, code: str, what: str) -> None:
        """The far end could not be reached."""


@dataclass(slots=True)
class Traffic:
    """What has passed through a tunnel, in bytes as seen from the visitor."""

    connections: int = 0
    """Since the beginning."""
    received: int = 0
    sent: int = 0
    failed: int = 0
    _open: set[Join] = field(default_factory=set)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def totals(self) -> tuple[int, int]:
        """Bytes from visitors and to them, those of open connections included."""
        return (
            self.received + sum(join.sent for join in self._open),
            self.sent + sum(join.received for join in self._open),
        )

    def begin(self, join: Join) -> None:
        self.connections += 1
        self._open.add(join)

    def end(self, join: Join, code: str | None) -> None:
        self._open.discard(join)
        self.received += join.sent
        self.sent += join.received

    def cancel(self, code: str) -> None:
        """Abort what is open."""
        for join in list(self._open):
            join.cancel(code)


class Early:
    """The user of a stream until its far end is there: keeps what comes, up to one buffer.

    ``gone`` is called when the stream is aborted meanwhile.
    """

    def __init__(self, stream: AcceptedStream, gone: Callable[[], object] = lambda: None) -> None:
        self.data = bytearray()
        self.has_ended = False
        self.gone = gone
        self._stream = stream

    @property
    def waits(self) -> bool:
        """Whether the stream still waits for its far end."""
        return self._stream.user is self and not self._stream.closed

    def hand_over(self, user: StreamUser) -> None:
        """``user`` has the stream from now on, and what has come so far."""
        self._stream.use(user)
        if self.data:
            user.payload(bytes(self.data))
        if self.has_ended:
            user.ended()

    def payload(self, data: memoryview | bytes) -> None:
        self.data += data
        if len(self.data) >= READ_SIZE:
            self._stream.pause()

    def ended(self) -> None:
        self.has_ended = True

    def refused(self, code: str, what: str) -> None: ...

    def aborted(self, code: str) -> None:
        self.gone()

    def drained(self) -> None: ...


class _Answering:
    """The user of a probe's stream: the answer has been sent, the rest is thrown away."""

    def __init__(self, stream: AcceptedStream) -> None:
        self._stream = stream

    def payload(self, data: memoryview | bytes) -> None: ...

    def ended(self) -> None:
        self._stream.delivered()

    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...
    def drained(self) -> None: ...


def answer_probe(stream: AcceptedStream, answer: bytes) -> None:
    """Accept a probe's stream and say ``answer`` on it."""
    stream.accept()
    stream.use(_Answering(stream))
    stream.send(answer)
    stream.end(delivered=False)
