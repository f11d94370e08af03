"""The seam between those who carry streams and those who use them.

A *stream* is one visitor's connection on its way through a tunnel. A transport carries it and
implements :class:`Stream`; whoever uses it (a pump, the HTTP ingress) implements
:class:`StreamUser` and is called back. Calls are synchronous and never block: what cannot be sent at
once is kept, ``False`` is returned, and the user stops until :meth:`StreamUser.drained`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tunnelkit.net.pipes import Pipe

__all__ = ["Opener", "Outgoing", "Stream", "StreamUser", "Target"]


class StreamUser(Protocol):
    """Whoever uses a stream."""

    def payload(self, data: memoryview | bytes) -> None:
        """Bytes from the other side, valid only during the call. Never empty."""

    def ended(self) -> None:
        """The other side's direction has ended cleanly: half-close."""

    def refused(self, code: str, what: str) -> None:
        """The other side could not reach the service. The last call."""

    def aborted(self, code: str) -> None:
        """The stream is gone without a clean end; the last call.

        ``unanswered``: nobody at the other side has taken it, another channel may do.
        """

    def drained(self) -> None:
        """What was kept is on its way: sending may go on."""


class Stream(Protocol):
    """One stream, as its user sees it."""

    splices: bool
    """Whether :meth:`send_spliced` works and the user's pipe may be fed (plain TCP under Linux)."""

    def use(self, user: StreamUser) -> None:
        """From now on ``user`` is called back."""

    def send(self, data: bytes | memoryview) -> bool:
        """Send ``data``; False: stop until ``drained``. The bytes are copied if they are kept."""

    def send_buffered(self, count: int) -> bool:
        """As :meth:`send`, for the first ``count`` bytes of the pump's ``area``, without a copy."""

    def send_spliced(self, pipe: Pipe, count: int) -> bool:
        """As :meth:`send`, for the ``count`` bytes in ``pipe``; False: the pipe is the stream's now."""

    def end(self, *, delivered: bool) -> None:
        """No more bytes from this side. ``delivered``: all of the other side's have been passed on."""

    def delivered(self) -> None:
        """All bytes of the other side have been passed on, and this side has ended before."""

    def cancel(self, code: str) -> None:
        """Abort the stream; the user hears no more of it."""

    def pause(self) -> None:
        """Stop calling ``payload``: the user cannot take more."""

    def resume(self) -> None:
        """Go on calling ``payload``."""


# --- the way out --------------------------------------------------------------------------------


class Target(NamedTuple):
    """Where a client of the egress proxy wants to go."""

    host: str
    """As the client wrote it: a name, or an address without brackets. Whoever opens normalises it."""
    port: int
    client: str
    """The client's address."""
    user: str = ""
    """Who the client is, if it had to say."""


class Outgoing(Stream, Protocol):
    """A stream to a target. It is paused: nothing is called back before ``use`` and ``resume``."""

    source: str
    """The address that it leaves from, as far as it is known."""


class Opener(Protocol):
    """Opens streams to targets: straight from here, through another proxy, or at a relay."""

    def open(self, target: Target) -> Outgoing | Coroutine[Any, Any, Outgoing]:
        """The stream, or, where that takes a wait, what to await for it.

        Either raises :class:`~tunnelkit.errors.TunnelkitError` where there is no way to the target. Who
        is cancelled while it waits leaves nothing open.
        """
