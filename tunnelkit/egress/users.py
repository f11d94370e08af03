"""Who may use a proxy, and how much of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["ClientAddresses", "Quota", "User", "UserLimits", "Users", "hash_password", "parse_users"]


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What one user may take of a proxy. 0: no limit."""

    connections: int = 0
    """Connections and UDP associations at once."""

    per_second: float = 0.0
    """New ones a second; as many may come at once as in two seconds."""


@dataclass(frozen=True, slots=True)
class User:
    """A name, and the hash of its password as :func:`hash_password` writes it."""

    name: str
    password_hash: str = field(repr=False)


def hash_password(password: str) -> str:
    """The hash to keep of ``password``: ``$scrypt$ln=…,r=…,p=…$SALT$HASH``. Takes a tenth of a second."""
    raise NotImplementedError


def parse_users(text: str) -> list[User]:
    """The users of a file: ``NAME:HASH`` lines, ``#`` comments. :class:`AuthMissingError` names the line."""
    raise NotImplementedError


class Users:
    """Users and passwords. Hashes are computed in threads of its own, a few at once."""

    def __init__(self, users: Iterable[User]) -> None:
        """At least one; :class:`AuthMissingError` for none, a name twice, or a hash that is none."""
        raise NotImplementedError

    def check_now(self, username: str, password: str) -> bool | None:
        """Whether the password is right, if that is known already; None: :meth:`check` it."""
        raise NotImplementedError

    async def check(self, username: str, password: str) -> bool:
        """Whether there is such a user with this password. An unknown user takes as long as a known one."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads."""
        raise NotImplementedError


class ClientAddresses:
    """The networks that clients may come from."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Addresses and CIDRs, at least one. :class:`AuthMissingError`, :class:`InvalidError`."""
        raise NotImplementedError

    def __contains__(self, address: str) -> bool:
        raise NotImplementedError


class Quota:
    """Counts what each user has, on one event loop."""

    def __init__(self, limits: UserLimits) -> None:
        raise NotImplementedError

    def take(self, user: str, now: float) -> None:
        """One more for ``user``; :class:`UserLimitError` if that is too much. ``now``: monotonic seconds."""
        raise NotImplementedError

    def give_back(self, user: str) -> None:
        """One less."""
        raise NotImplementedError
