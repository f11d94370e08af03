"""What those have in common who accept streams: waiting for the far end, and counting what passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tunnelkit.net.pump import READ_SIZE, Join
from tunnelkit.net.stream import StreamUser
from tunnelkit.transport.channels import AcceptorChannel

__all__ = ["Early", "Traffic", "answer_probe"]


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

    def __init__(self, channel: AcceptorChannel, gone: Callable[[], object] = lambda: None) -> None:
        self.data = bytearray()
        self.has_ended = False
        self.gone = gone
        self._channel = channel

    @property
    def waits(self) -> bool:
        """Whether the stream still waits for its far end."""
        return self._channel.user is self and not self._channel.closed

    def hand_over(self, user: StreamUser) -> None:
        """``user`` has the stream from now on, and what has come so far."""
        self._channel.use(user)
        if self.data:
            user.payload(bytes(self.data))
        if self.has_ended:
            user.ended()

    def payload(self, data: memoryview | bytes) -> None:
        self.data += data
        if len(self.data) >= READ_SIZE:
            self._channel.pause()

    def ended(self) -> None:
        self.has_ended = True

    def refused(self, code: str, what: str) -> None: ...

    def aborted(self, code: str) -> None:
        self.gone()

    def drained(self) -> None: ...


class _Answering:
    """The user of a probe's stream: the answer has been sent, the rest is thrown away."""

    def __init__(self, channel: AcceptorChannel) -> None:
        self._channel = channel

    def payload(self, data: memoryview | bytes) -> None: ...

    def ended(self) -> None:
        self._channel.delivered()

    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...
    def drained(self) -> None: ...


def answer_probe(channel: AcceptorChannel, answer: bytes) -> None:
    """Accept a probe's stream and say ``answer`` on it."""
    channel.accept()
    channel.use(_Answering(channel))
    channel.send(answer)
    channel.end(delivered=False)
