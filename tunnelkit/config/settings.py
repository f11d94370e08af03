"""The settings there are, and what they may be; :mod:`tunnelkit.config.loading` finds their values.

Each field says by its annotation how it is read. The text below a field is its entry in
``docs/reference/settings.md``, which ``scripts/settings-reference`` writes from here.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tunnelkit.config import readers
from tunnelkit.config.masked import NO_SECRET, Masked

__all__ = ["AgentSettings", "RelaySettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How an agent reaches its relay."""

    relay: Annotated[str, readers.relay] = ""
    """Where the relay is; `ssh+openssh://` is an SSH server of any make. Left out or `local`: one is started
    on this machine."""

    token: Annotated[Masked, readers.token] = NO_SECRET
    """Proves to the relay who this is. Better in a file than here."""

    token_file: Annotated[str, readers.token_file] = ""
    """A file with the token; `-` is standard input."""

    ca: Annotated[str, readers.path] = ""
    """A file (PEM) with the authorities that may sign the relay's certificate. Left out: the system's."""

    fingerprint: Annotated[str, readers.sha256] = ""
    """SHA-256 of the relay's certificate, which then needs no authority."""

    identity_file: Annotated[str, readers.path] = ""
    """The private key for a relay by SSH. Left out: those of the SSH agent, and of `~/.ssh`."""

    known_hosts: Annotated[str, readers.path] = ""
    """A file with host keys that are trusted. Left out: `~/.ssh/known_hosts` and the system's."""

    host_key: Annotated[str, readers.host_key] = ""
    """The fingerprint of the relay's SSH host key; `known_hosts` does not count then."""

    ping_interval: Annotated[float, readers.positive] = 20.0
    """Seconds of silence after which an SSH server is asked for a sign of life. A relay names its own."""

    ping_timeout: Annotated[float, readers.positive] = 20.0
    """Seconds of silence after that, until it counts as dead."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """What `tunnelkit serve` does. Times are in seconds."""

    listen: Annotated[tuple[str, ...], readers.listen] = ("127.0.0.1:8080",)
    """Addresses for agents and HTTP visitors; `:PORT` is every interface."""

    domain: Annotated[str, readers.domain] = ""
    """HTTP tunnels get names under it. Left out: each gets a port of its own."""

    tcp_ports: Annotated[range, readers.tcp_ports] = range(0)
    """Public ports for TCP tunnels. Left out: the relay opens none."""

    token: Annotated[tuple[Masked, ...], readers.tokens] = ()
    """Who may open tunnels: each token is an identity of its own. Better in a file."""

    token_file: Annotated[str, readers.token_file] = ""
    """A file with one token a line; empty lines and those that begin with `#` do not count."""

    open: Annotated[bool, readers.switch] = False
    """Let everybody open tunnels; without it, a relay that others can reach needs a token."""

    ssh: Annotated[tuple[str, ...], readers.listen] = ()
    """Addresses for SSH alone; at those of `listen` it is spoken as well."""

    authorized_keys: Annotated[str, readers.keys_file] = ""
    """A file with the keys that may log in over SSH and open tunnels, in OpenSSH's format (sshd(8))."""

    ssh_host_key: Annotated[str, readers.path] = ""
    """The file with the SSH host key, made at the first start. Left out: in the user's data directory."""

    ssh_keys_only: Annotated[bool, readers.switch] = False
    """Take no tokens as passwords over SSH."""

    grace: Annotated[float, readers.seconds] = 30.0
    """How long running streams may go on once the relay is told to stop."""

    ping_interval: Annotated[float, readers.positive] = 20.0
    """Silence after which a connection is pinged; carriers cut what is quiet for a minute."""

    ping_timeout: Annotated[float, readers.positive] = 20.0
    """Silence after a ping that means the connection is dead."""

    stall_timeout: Annotated[float, readers.positive] = 300.0
    """A peer that takes no byte for this long is given up."""
