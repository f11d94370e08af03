"""The seam between an agent and the ways to its relay: WebSocket, SSH, an SSH server of any make.

A *link* carries messages both ways and brings visitors' streams in; an *egress link* takes streams out
to the relay instead. The agent decides what is said and what a stream is joined with; a link decides how
that travels. It never reconnects by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tunnelkit.errors import InvalidError, NoExitError
from tunnelkit.net.pump import Pump
from tunnelkit.net.resolve import Resolver
from tunnelkit.net.stream import Outgoing
from tunnelkit.transport.accept import AcceptedStream
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.wire.messages import ControlToAgent, Message, Open, Welcome
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["EgressLink", "Link", "LinkUser", "Trust", "lacks_egress", "make_egress_link", "make_link"]


class LinkUser(Protocol):
    """The session that the link is for."""

    def received(self, message: ControlToAgent | None) -> None:
        """A message of the relay; None for one of a newer relay. ProtocolError ends the connection."""

    def lost(self, code: str) -> None:
        """The connection is gone, and nobody here ended it."""

    def stream_opened(self, stream: AcceptedStream, request: Open) -> None:
        """A visitor has come."""

    def told(self, what: str, code: str) -> None:
        """The relay's side says something to the person at the agent."""


class Link(Protocol):
    """One way to one relay, connected at most once at a time."""

    @property
    def resolver(self) -> Resolver:
        """Names, to whoever needs them beside the link."""

    async def connect(self) -> None:
        """Connect; the relay can be talked to from then on. Raises what is in the way."""

    def send(self, message: Message) -> bool:
        """Send a message; False where there is no connection."""

    def greeted(self, welcome: Welcome) -> None:
        """The relay has greeted the agent, on these terms."""

    def check(self, kind: str, *, name: str, remote_port: int, host_header: str) -> None:
        """Raise InvalidError where this relay can never give what is wished for."""

    def disconnect(self) -> None:
        """End the connection; :meth:`LinkUser.lost` is not called."""

    async def close(self) -> None:
        """Disconnect and let everything go."""


class EgressLink(Link, Protocol):
    """One way to a relay to leave by: this side opens the streams."""

    @property
    def busy(self) -> int:
        """Streams that are open."""

    async def open(self, request: Open) -> Outgoing:
        """The stream that ``request`` asks for, once the relay has taken it.

        Raises what the relay refuses it with, LimitError, and RelayUnreachableError where the relay is away.
        Who is cancelled meanwhile leaves nothing open.
        """


def lacks_egress(url: RelayUrl, welcome: Welcome) -> NoExitError | None:
    """Why nothing can leave by the relay that has greeted this side so; None: it can."""
    if welcome.egress:
        return None
    what = f"The relay at {url} runs a version of tunnelkit without egress"
    return NoExitError(what, hint="Bring the relay up to date")


@dataclass(frozen=True, slots=True)
class Trust:
    """By what agent and relay know each other."""

    token: str = field(default="", repr=False)
    ca: str | None = None
    """A file with the authorities that sign the relay's certificate (TLS)."""
    fingerprint: str | None = None
    """SHA-256 of the relay's certificate (TLS)."""
    ssh: SshOptions = field(default_factory=SshOptions)

    def __post_init__(self) -> None:
        if not all("!" <= character <= "~" for character in self.token):
            raise InvalidError("The token is malformed", hint="It is visible ASCII without spaces")


def make_link(
    url: RelayUrl, trust: Trust, pump: Pump, user: LinkUser, environ: Mapping[str, str] | None = None
) -> Link:
    """The link to ``url``. ``environ``, which may name proxies, stands in for the process's own.

    InvalidError where what is to be verified cannot be.
    """
    _verifiable(url, trust)
    if url.scheme == "ssh":
        from tunnelkit.agent.ssh_link import SshLink  # asyncssh takes a third of a second to import

        return SshLink(url, trust, pump, user, environ)
    if url.scheme == "ssh+openssh":
        from tunnelkit.agent.openssh_link import OpenSshLink

        return OpenSshLink(url, trust, pump, user, environ)
    from tunnelkit.agent.websocket_link import WebSocketLink

    return WebSocketLink(url, trust, pump, user, environ)


def make_egress_link(url: RelayUrl, trust: Trust, pump: Pump, user: LinkUser) -> EgressLink:
    """The link by which streams leave at ``url``. InvalidError as with :func:`make_link`."""
    _verifiable(url, trust)
    if url.is_ssh:
        raise InvalidError(f"Leaving by a relay takes WebSocket, not {url.scheme}", hint="Give wss://HOST")
    from tunnelkit.agent.websocket_egress import WebSocketEgressLink

    return WebSocketEgressLink(url, trust, pump, user)


def _verifiable(url: RelayUrl, trust: Trust) -> None:
    if trust.ssh.host_key and not url.is_ssh:
        raise InvalidError(f"There is no SSH host key at {url}", hint="Pin a certificate with --fingerprint")
    if trust.fingerprint and url.is_ssh:
        raise InvalidError(f"There is no certificate at {url}", hint="Pin the host key with --host-key")
