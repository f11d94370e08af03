"""What an egress proxy allows, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one proxy. Times in seconds."""

    connections: int = 10_000
    """Clients at once; each takes a descriptor, and another for where it goes."""

    per_client: int = 4096
    """Connections at once of one client address, so that one machine does not take all of them."""

    head_timeout: float = 10.0
    """A client says where it wants to go within this, from when it connected."""

    keep_alive: float = 75.0
    """An HTTP client's connection without a request is closed after this, as a browser expects."""

    response_timeout: float = 600.0
    """An HTTP server starts to answer within this; long polls are shorter."""

    idle_timeout: float = 3600.0
    """A connection on which nothing moves is ended after this, or up to a quarter later: what is quiet
    for longer says so with keep-alives of its own."""

    stall_timeout: float = 300.0
    """A peer that takes no byte of what waits for it is given up after this."""

    associations: int = 256
    """UDP associations at once; each takes up to three descriptors beside its control connection."""

    udp_destinations: int = 1024
    """Destinations of one UDP association whose answers are let in. The oldest is forgotten for a new
    one; a DNS or QUIC client has tens."""
