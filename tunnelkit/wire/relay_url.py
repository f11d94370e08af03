"""Where a relay is: ``wss://HOST``, ``ws://HOST:PORT``, ``ssh://HOST:PORT`` or ``ssh+openssh://USER@HOST``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from tunnelkit.errors import InvalidError

__all__ = ["RelayUrl"]

_PORTS = {"ws": 80, "wss": 443, "ssh": 22, "ssh+openssh": 22}


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """A relay's address, taken apart. ``host`` has no brackets.

    ``ssh+openssh`` is an SSH server of any make that forwards ports, and no relay of ours. ``user`` is
    whom SSH logs in as, empty where the address does not say.
    """

    scheme: str
    host: str
    port: int
    user: str = ""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "wss"

    @property
    def is_ssh(self) -> bool:
        """Whether SSH is spoken."""
        return self.scheme in ("ssh", "ssh+openssh")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"{self.scheme}://{user}{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> RelayUrl:
        """Take ``text`` apart. Raises InvalidError, which never shows a password that was in it."""
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidError(f"The relay's address cannot be read: {error}", hint=_HINT) from None
        if parts.scheme in ("http", "https"):
            scheme = "wss" if parts.scheme == "https" else "ws"
            raise InvalidError(
                f"A relay is reached by {scheme}://, not {parts.scheme}://",
                hint=f"Give {scheme}://{parts.netloc.rpartition('@')[2]}",
            )
        if parts.scheme not in _PORTS or not host:
            raise InvalidError(f"{_safe(text)!r} is no relay's address", hint=_HINT)
        user = "" if parts.username is None else unquote(parts.username)
        if parts.password is not None or (parts.username is not None and "ssh" not in parts.scheme):
            raise InvalidError("A relay's address holds no password", hint="Give the token with --token-file")
        if not user.isprintable():
            raise InvalidError("The user of the relay's address is no name", hint=_HINT)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InvalidError(f"A relay's address has no path: {parts.path or '?'!r}", hint=_HINT)
        if port == 0:
            raise InvalidError("Port 0 is no relay's", hint=_HINT)
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], user)


_HINT = "Give wss://HOST, ws://HOST:PORT, ssh://HOST:PORT or ssh+openssh://USER@HOST"


def _safe(text: str) -> str:
    return text.rpartition("@")[2][:80]
