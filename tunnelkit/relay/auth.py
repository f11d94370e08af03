"""Who may use a relay."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from tunnelkit.errors import AuthMissingError, InvalidError

__all__ = ["AnyToken", "Authorizer", "Identity", "NoToken", "Rights", "TokenList", "bearer"]

MAX_TOKEN = 1024
"""Characters of a token; longer ones are refused unread."""

MAX_RULES = 2048
"""Characters of a token's rules for destinations: they travel to an exit with each stream."""


RELAY = "@relay"
OWN = "@own"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a token lets its holder do with exits; tunnels need no right of their own.

    ``proxies``: what it may leave by: ``@relay`` (the relay's own addresses, where it lends them),
    ``@own`` (exits that the same token offers), names of exits and ``zone:NAME``, with wildcards.
    ``destinations``: where to, as rules of the egress policy in their order; they hold in addition to
    the exit's own, and an empty list adds nothing. ``offers``: names of exits it may offer.
    """

    proxies: tuple[str, ...] = (RELAY, OWN)
    destinations: tuple[str, ...] = ()
    offers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if sum(map(len, self.destinations)) > MAX_RULES:
            raise InvalidError(f"A token's rules for destinations have more than {MAX_RULES} characters")

    @property
    def may_leave_here(self) -> bool:
        """Whether connections may leave from the relay's own addresses."""
        return RELAY in self.proxies

    def may_leave_by(self, name: str, zone: str, *, own: bool) -> bool:
        """Whether they may leave by that exit; ``own``: the same token offers it."""
        if own and OWN in self.proxies:
            return True
        names = [name, f"zone:{zone}"] if zone else [name]
        return any(fnmatchcase(one, pattern) for pattern in self.proxies for one in names)

    def may_offer(self, name: str) -> bool:
        """Whether the token may offer an exit of that name."""
        return any(fnmatchcase(name, pattern) for pattern in self.offers)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is to the relay: names and ports are kept for an identity."""

    name: str
    anonymous: bool = False
    """Whether everybody else is this, too: then only the same agent is the same person."""
    rights: Rights = field(default=Rights(), compare=False)
    """What it may do; it is the same identity whatever that is."""


class Authorizer(Protocol):
    """Decides about tokens."""

    async def authorize(self, token: str) -> Identity | None:
        """The identity that ``token`` proves, or None."""


class TokenList:
    """A fixed list of tokens, each an identity of its own. Holds and compares digests only.

    Where ``tokens`` maps them to :class:`Rights`, each has these.
    """

    def __init__(self, tokens: Iterable[str] | Mapping[str, Rights]) -> None:
        self._digests: dict[bytes, Rights] = {}
        rights = tokens if isinstance(tokens, Mapping) else {}
        for token in tokens:
            # What is not visible ASCII does not survive an HTTP header (RFC 6750 §2.1 allows fewer).
            if not 0 < len(token) <= MAX_TOKEN or not all("!" <= character <= "~" for character in token):
                raise AuthMissingError(
                    "A token for the relay is empty or malformed",
                    hint=f"A token has 1 to {MAX_TOKEN} visible ASCII characters, and no space among them",
                )
            self._digests[_digest(token)] = rights.get(token, Rights())
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
        if found is None:
            return None
        return Identity(f"token-{found.hex()[:12]}", rights=self._digests[found])


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
