"""The settings there are, and what they may be; :mod:`tunnelkit.config.loading` finds their values.

Each field says by its annotation how it is read. The text below a field is its entry in
``docs/reference/settings.md``, which ``scripts/settings-reference`` writes from here.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tunnelkit.config import readers
from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.config.tokens import RelayToken, relay_tokens

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

    token: Annotated[tuple[RelayToken, ...], relay_tokens] = ()
    """Who may open tunnels: each token is an identity of its own. Better in a file."""

    token_file: Annotated[str, readers.token_file] = ""
    """A file with one token a line, and [its rights](../howto/exits.md) behind it; empty lines and those that
    begin with `#` do not count."""

    open: Annotated[bool, readers.switch] = False
    """Let everybody open tunnels; without it, a relay that others can reach needs a token."""

    egress_source_ip: Annotated[tuple[str, ...], readers.texts] = ()
    """Addresses of this machine by which agents' proxies may leave. Left out: none is lent."""

    egress_rules: Annotated[tuple[str, ...], readers.rules] = ()
    """Where to; the first match decides."""

    ssh: Annotated[tuple[str, ...], readers.listen] = ()
    """Addresses for SSH alone; at those of `listen` it is spoken as well."""

    authorized_keys: Annotated[str, readers.keys_file] = ""
    """A file with the keys that may log in over SSH and open tunnels, in OpenSSH's format (sshd(8))."""

    ssh_host_key: Annotated[str, readers.path] = ""
    """The file with the SSH host key, made at the first start. Left out: in the user's data directory."""

    ssh_keys_only: Annotated[bool, readers.switch] = False
    """Take no tokens as passwords over SSH."""

    tls_cert: Annotated[tuple[str, ...], readers.files] = ()
    """Files (PEM) with a certificate, the server's own first, then its chain: one for each set of names,
    chosen by the name that a client asks for. They are read again when they change."""

    tls_key: Annotated[tuple[str, ...], readers.files] = ()
    """Their private keys, in the same order. Left out: each is in the file of its certificate."""

    tls_self_signed: Annotated[bool, readers.switch] = False
    """Make a certificate that agents pin by its fingerprint; it is kept in the user's data directory."""

    plain_http: Annotated[bool, readers.switch] = False
    """With TLS: serve visitors without it, too, instead of sending them to `https://`."""

    hsts: Annotated[int, readers.whole_seconds] = 0
    """Seconds for which browsers are told to come with TLS only (RFC 6797). 0: they are not told."""

    proxy_protocol_from: Annotated[tuple[str, ...], readers.networks] = ()
    """Load balancers: connections from these addresses and networks begin with a PROXY protocol header."""

    grace: Annotated[float, readers.seconds] = 30.0
    """How long running streams may go on once the relay is told to stop."""

    ping_interval: Annotated[float, readers.positive] = 20.0
    """Silence after which a connection is pinged; carriers cut what is quiet for a minute."""

    ping_timeout: Annotated[float, readers.positive] = 20.0
    """Silence after a ping that means the connection is dead."""

    stall_timeout: Annotated[float, readers.positive] = 300.0
    """A peer that takes no byte for this long is given up."""
