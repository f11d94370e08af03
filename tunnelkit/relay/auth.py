"""Who may use a relay."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tunnelkit.errors import AuthMissingError

__all__ = ["AnyToken", "Authorizer", "Identity", "NoToken", "TokenList", "bearer"]

MAX_TOKEN = 1024
"""Characters of a token; longer ones are refused unread."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is to the relay: names and ports are kept for an identity."""

    name: str
    anonymous: bool = False
    """Whether everybody else is this, too: then only the same agent is the same person."""


class Authorizer(Protocol):
    """Decides about tokens."""

    async def authorize(self, token: str) -> Identity | None:
        """The identity that ``token`` proves, or None."""


class TokenList:
    """A fixed list of tokens, each an identity of its own. Holds and compares digests only."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = []
        for token in tokens:
            # What is not visible ASCII does not survive an HTTP header (RFC 6750 §2.1 allows fewer).
            if not 0 < len(token) <= MAX_TOKEN or not all("!" <= character <= "~" for character in token):
                raise AuthMissingError(
                    "A token for the relay is empty or malformed",
                    hint=f"A token has 1 to {MAX_TOKEN} visible ASCII characters, and no space among them",
                )
            self._digests.append(_digest(token))
        if not self._digests:
            raise AuthMissingError("The relay has no token")

    def __repr__(self) -> str:
        return f"<TokenList of {len(self._digests)}>"

    async def authorize(self, token: str) -> Identity | None:
        if len(token) > MAX_TOKEN:
            return None
        digest = _digest(token)
        found = None
        for known in self._digests:  # all of them, so that the time says nothing
            if hmac.compare_digest(known, digest):
                found = known
        return None if found is None else Identity(f"token-{found.hex()[:12]}")


class AnyToken:
    """A relay that is open: everyone is somebody, and the same token the same person.

    Who brings no token is told from others by what the agent says of itself.
    """

    async def authorize(self, token: str) -> Identity | None:
        if not token:
            return Identity("anybody", anonymous=True)
        return Identity(f"token-{_digest(token).hex()[:12]}")


class NoToken:
    """A relay for keys alone."""

    async def authorize(self, token: str) -> Identity | None:
        return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def bearer(header: bytes | None) -> str:
    """The token in an ``Authorization`` header (RFC 6750 §2.1); empty if there is none."""
    scheme, _, token = (header or b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
