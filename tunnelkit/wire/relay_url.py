"""Where a relay is: ``ws://HOST[:PORT]`` or ``wss://HOST[:PORT]``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tunnelkit.errors import InvalidError

__all__ = ["RelayUrl"]

_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """A relay's address, taken apart. ``host`` has no brackets."""

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        return self.scheme == "wss"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

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
        if parts.username is not None or parts.password is not None:
            raise InvalidError("A relay's address holds no password", hint="Give the token with --token-file")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InvalidError(f"A relay's address has no path: {parts.path or '?'!r}", hint=_HINT)
        if port == 0:
            raise InvalidError("Port 0 is no relay's", hint=_HINT)
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])


_HINT = "Give ws://HOST:PORT or wss://HOST"


def _safe(text: str) -> str:
    return text.rpartition("@")[2][:80]
