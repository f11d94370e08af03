"""The settings of ``tunnelkit egress``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tunnelkit.config import readers
from tunnelkit.config.masked import NO_SECRET, Masked

__all__ = ["EgressSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EgressSettings:
    """What `tunnelkit egress` does. Times are in seconds."""

    listen: Annotated[tuple[str, ...], readers.listen] = ("127.0.0.1:1080",)
    """Addresses for clients, SOCKS and HTTP: `HOST:PORT`, or `:PORT` for every interface."""

    source_ip: Annotated[tuple[str, ...], readers.texts] = ()
    """The addresses to leave from. Left out: the system chooses."""

    rules: Annotated[tuple[str, ...], readers.rules] = ()
    """Where clients may go: `allow DESTINATION` and `deny DESTINATION`, the first match decides."""

    users: Annotated[str, readers.users_file] = ""
    """A file with the users, `NAME:HASH` a line, as `tunnelkit egress user` writes it."""

    client: Annotated[tuple[str, ...], readers.clients] = ()
    """Addresses and networks that clients may come from."""

    open: Annotated[bool, readers.switch] = False
    """Let everybody in; without it, a proxy that others can reach needs `users` or `client`."""

    via: Annotated[str, readers.zone_relay] = ""
    """A relay to leave from instead of this machine; its token is the agent's."""

    exit: Annotated[str, readers.word] = ""
    """Which of the relay's exits: an agent's name, or `zone:ZONE`. Left out: the relay itself."""

    upstream: Annotated[Masked, readers.upstream] = NO_SECRET
    """A proxy to go on through: `socks5://` or `http://` URL, with user and password if need be."""

    access_log: Annotated[str, readers.log_file] = "-"
    """Where a line for each connection goes: a file, `-` for standard error, or `off`."""

    connections: Annotated[int, readers.some] = 10_000
    """Clients at once."""

    connections_per_client: Annotated[int, readers.some] = 4096
    """Connections at once of one client address."""

    user_connections: Annotated[int, readers.count] = 0
    """Connections at once of one user (or address, where there are no users). 0: no limit."""

    user_rate: Annotated[float, readers.rate] = 0.0
    """New connections a second of one user. 0: no limit."""

    idle_timeout: Annotated[float, readers.positive] = 3600.0
    """A connection on which nothing moves is ended after this."""

    grace: Annotated[float, readers.seconds] = 30.0
    """How long running connections may go on once the proxy is told to stop."""
