"""What a relay and the SSH connections of its clients know of each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tunnelkit.transport.ssh_keys import KeyRules

if TYPE_CHECKING:
    from tunnelkit.transport.ssh import SshConnection

__all__ = ["Login", "SshPeer", "Terminal"]


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants in, and what proves it: the key that signed, a token, or nothing where nothing is asked."""

    user: str
    fingerprint: str = ""
    token: str = ""
    rules: KeyRules = field(default_factory=KeyRules)

    def __repr__(self) -> str:
        return f"<Login of {self.user!r} by {self.fingerprint or ('token' if self.token else 'nothing')}>"


class Terminal(Protocol):
    """A session channel, for those who write to it."""

    is_tty: bool

    def line(self, text: str, *, error: bool = False) -> None:
        """Write a line; dropped where the other side does not read."""

    def send(self, data: bytes) -> None:
        """Write bytes, all of them."""

    def exit(self, status: int) -> None:
        """End the session."""


class SshPeer(Protocol):
    """What the relay makes of one connection; all is called in the order of arrival."""

    address: str
    """Where the client comes from."""

    async def login(self, login: Login) -> str | None:
        """Let ``login`` in, with a banner to show; None does not. May be called again after that."""

    def established(self, connection: SshConnection) -> None:
        """The login is complete."""

    async def forward(self, host: str, port: int) -> int:
        """Listen; the port. Raises TunnelkitError."""

    async def forward_cancelled(self, host: str, port: int) -> bool:
        """Listen no more; False where nothing did."""

    def session_started(self, terminal: Terminal, command: str | None) -> None:
        """A shell, or a command, has been asked for."""

    def subsystem(self, terminal: Terminal) -> None:
        """A control connection begins."""

    def typed(self, terminal: Terminal, data: bytes) -> None:
        """Bytes of a session."""

    def session_ended(self, terminal: Terminal) -> None:
        """A session channel has been closed."""

    def lost(self, why: str) -> None:
        """The connection has ended: ``auth`` after failed logins, ``protocol``, or anything else."""
