"""Zones: one word for the relay, the exit and the function workers of a place.

::

    [zones.eu-west-1]
    relay = "wss://eu.relay.example.com"
    token_file = "eu.token"
    exit = "frankfurt"
    workers = { "ray.io/zone" = "eu-west-1" }

:func:`tunnelkit.config.load_zone` finds one by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from tunnelkit.config import readers
from tunnelkit.config.masked import NO_SECRET, Masked

__all__ = ["Zone"]

ZONE_LABEL = "ray.io/zone"
"""What Ray calls the zone of a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """What ``[zones.NAME]`` says of a place."""

    name: str

    relay: Annotated[str, readers.zone_relay] = ""
    """The relay there, for `--zone NAME` and `Tunnel.create(zone="NAME")`."""

    token: Annotated[Masked, readers.token] = NO_SECRET
    """The token for that relay, where it is not the one of all relays. Better in a file than here."""

    token_file: Annotated[str, readers.token_file] = ""
    """A file with that token."""

    ca: Annotated[str, readers.path] = ""
    """A file (PEM) with the authorities that may sign that relay's certificate."""

    fingerprint: Annotated[str, readers.sha256] = ""
    """SHA-256 of that relay's certificate."""

    identity_file: Annotated[str, readers.path] = ""
    """The private key for that relay, by SSH."""

    known_hosts: Annotated[str, readers.path] = ""
    """A file with host keys that are trusted there."""

    host_key: Annotated[str, readers.host_key] = ""
    """The fingerprint of that relay's SSH host key."""

    exit: Annotated[str, readers.exit_name] = ""
    """The exit by which traffic leaves there, as the relay knows it."""

    workers: Annotated[Mapping[str, str], readers.labels] = field(default_factory=dict, hash=False)
    """The labels of the workers there that run functions. Left out: `ray.io/zone`, with the zone's name."""

    own: bool = True
    """Whether this user's own settings name the zone, and not a file in the working directory."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What workers of this zone are chosen by."""
        return self.workers or {ZONE_LABEL: self.name}
