"""What a relay allows, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one relay. Times in seconds."""

    tunnels_per_session: int = 100
    """Public names and ports of one agent: more is a fleet, which has several agents."""

    channels_per_session: int = 4096
    """Visitors at once of one agent; each takes a descriptor here and two at the agent."""

    sessions: int = 10_000
    """Agents at once; an idle one costs two descriptors."""

    waiting_per_session: int = 1024
    """Visitors that wait for a data channel; the next one is turned away at once."""

    channel_wait: float = 10.0
    """A visitor waits this long for a data channel: the time of a few lost packets on the way."""

    away_wait: float = 2.0
    """A visitor waits this long for an agent that lost its control connection: one fast reconnect."""

    open_timeout: float = 5.0
    """The agent answers ``open`` within this, or another channel is tried."""

    exit_timeout: float = 15.0
    """An exit answers ``open`` within this; it dials across the internet, lookup included."""

    resume_window: float = 60.0
    """Streams, names and ports are kept this long for an agent that lost its connection."""

    channel_idle: float = 60.0
    """Idle data channels beyond the first are closed after this."""

    ping_interval: float = 20.0
    """Silence after which a connection is pinged; carriers cut what is quiet for a minute."""

    ping_timeout: float = 20.0
    """Silence after a ping that means the connection is dead."""

    head_timeout: float = 10.0
    """A visitor sends a whole request head within this."""

    handshake_timeout: float = 10.0
    """A TLS handshake is done within this: three round trips, and lost packets on the way."""

    idle_timeout: float = 75.0
    """A kept-alive visitor connection without a request is closed after this."""

    response_timeout: float = 600.0
    """A service starts to answer a request within this; long polls are shorter."""

    upstream_idle: float = 60.0
    """A kept-alive connection to a service that carries no request is given up after this."""

    probe_timeout: float = 5.0
    """A new tunnel's probe comes round within this."""

    stall_timeout: float = 300.0
    """A peer that takes no byte for this long is given up."""
