"""What a session is to the rest of the relay, however its agent is connected.

The registry, the ingress, the probes and the limits see sessions and their streams by these
protocols alone: a tunnel made over SSH is a tunnel like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.stream import Stream, StreamUser
from tunnelkit.relay.auth import Identity
from tunnelkit.transport.accept import AcceptedStream
from tunnelkit.transport.channels import Opened
from tunnelkit.wire import messages

if TYPE_CHECKING:
    from tunnelkit.relay.registry import RelayTunnel

__all__ = ["AgentAwayError", "EgressOpen", "Session", "SessionStream"]


class AgentAwayError(TunnelkitError):
    """The tunnel's agent is not connected, or offers no data channel in time."""

    code = "agent_away"
    exit_status = 1
    default_hint = "The agent reconnects by itself; try again in a moment"


class SessionStream(Stream, Protocol):
    """A stream that a session gives out, to be opened once."""

    @property
    def closed(self) -> bool:
        """Whether it is of no more use."""

    @property
    def blocked(self) -> bool:
        """Whether what is sent now would have to wait."""

    def open(
        self, request: messages.Open, user: StreamUser, payload: bytes = b"", opened: Opened | None = None
    ) -> None:
        """Open it for ``user``, with its first bytes if they are there already.

        ``opened`` is called before the first bytes of the other side come.
        """


class Session(Protocol):
    """One agent at the relay, or one SSH client."""

    identity: Identity
    agent: str
    """The agent's own identity: a newer session of the same agent takes its tunnels over."""
    tunnels: dict[int, RelayTunnel]

    @property
    def ended(self) -> bool:
        """Whether it is over."""

    @property
    def attached(self) -> bool:
        """Whether the agent is connected."""

    @property
    def wanting(self) -> bool:
        """Whether visitors wait for a stream, and there can be no more."""

    async def gives_way(self) -> bool:
        """Whether a newer session of the same agent may take its tunnels over.

        It may where this one will hear of it and stay away, or turns out to be a ghost.
        """

    def permits(self, message: messages.Request) -> None:
        """Raise RefusedError where what ``message`` asks for is not for this session."""

    def send(self, message: messages.Message) -> bool:
        """Tell the agent; False where it is not connected."""

    def replaced(self, number: int) -> None:
        """A newer session has tunnel ``number`` now."""

    def next_stream(self) -> int:
        """A number for a new stream."""

    def take(self) -> SessionStream | None:
        """A stream to open, if there is one at once."""

    async def acquire(self) -> SessionStream:
        """A stream to open, waited for. Raises AgentAwayError or LimitError."""

    def opening(self, channel: SessionStream) -> None:
        """``channel`` is about to wait for the agent's answer."""

    def reaching(self, channel: SessionStream) -> None:
        """``channel`` is about to wait for an exit, which dials across the internet."""

    def channel_free(self, channel: SessionStream) -> None:
        """Give back a stream that was not opened."""

    def tick(self, now: float, *, liveness: bool) -> None:
        """Look after what waits; called every second, with ``liveness`` four times a ping interval."""

    def end(self, code: str = "agent_away") -> None:
        """End the session with all its streams."""


EgressOpen = Callable[[Session, AcceptedStream, messages.Open], None]
"""Takes a stream that the other end of a session opens itself, to leave by the relay."""
