"""Who may use a proxy, and how much of it."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import secrets
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tunnelkit.egress.password import PasswordHash, hash_password, is_password
from tunnelkit.errors import AuthMissingError, InvalidError, UserLimitError
from tunnelkit.wire.networks import Networks

__all__ = ["ClientAddresses", "Quota", "User", "UserLimits", "Users", "hash_password", "parse_users"]

MAX_NAME = 255
"""Bytes of a user name: what SOCKS5 has room for (RFC 1929 §2)."""

MAX_CHECKS = 64
"""Passwords that wait to be checked: with a fifth of a second each, as long as a client waits."""

MAX_CHECKS_OF_CLIENT = 8
"""Of these, those of one client: whoever tries passwords leaves room for others."""

MAX_WRONG = 1024
"""Wrong passwords that are remembered, so that a program with an old one does not cost a hash each time."""


@dataclass(frozen=True, slots=True)
class User:
    """A name, and the hash of its password as :func:`hash_password` writes it."""

    name: str
    password_hash: str = field(repr=False)


def parse_users(text: str) -> list[User]:
    """The users of a file: ``NAME:HASH`` lines, ``#`` comments. :class:`AuthMissingError` names the line."""
    users = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, password_hash = line.partition(":")
        try:
            if not colon:
                raise InvalidError("There is no colon", hint="A line is NAME:HASH")
            user = User(name.strip(), password_hash.strip())
            _parsed(user)
        except InvalidError as error:
            raise AuthMissingError(f"Users, line {number}: {error.what}", hint=error.hint) from error
        users.append(user)
    return users


def _parsed(user: User) -> PasswordHash:
    name = user.name
    if not 0 < len(name.encode(errors="replace")) <= MAX_NAME or ":" in name or not name.isprintable():
        raise InvalidError(
            "That is no user name", hint=f"A name has 1 to {MAX_NAME} bytes, no colon and nothing invisible"
        )
    return PasswordHash.parse(user.password_hash)


class Users:
    """Users and passwords, for one event loop.

    Hashes are computed in a thread, one at a time, so that strangers who try passwords take no more
    than one processor. A password that was right is known again by a digest under a key that lives
    as long as this object, which costs microseconds.
    """

    def __init__(self, users: Iterable[User]) -> None:
        """At least one; :class:`AuthMissingError` for none, a name twice, or a hash that is none."""
        self._hashes: dict[str, PasswordHash] = {}
        for user in users:
            try:
                hashed = _parsed(user)
            except InvalidError as error:
                raise AuthMissingError(f"A user: {error.what}", hint=error.hint) from error
            if user.name in self._hashes:
                raise AuthMissingError(f"The user {user.name!r} is there twice", hint="Remove one of the two")
            self._hashes[user.name] = hashed
        if not self._hashes:
            raise AuthMissingError("There is no user", hint="Add lines NAME:HASH to the users' file")
        # To be as slow for a name that is none.
        first = next(iter(self._hashes.values()))
        self._nobody = PasswordHash(
            first.log_n, first.block, first.parallel, secrets.token_bytes(16), secrets.token_bytes(32)
        )
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._wrong: dict[bytes, None] = {}
        self._waiting: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    def __repr__(self) -> str:
        return f"<Users: {len(self._hashes)}>"

    def check_now(self, username: str, password: str) -> bool | None:
        """Whether the password is right, if that is known already; None: :meth:`check` it."""
        if not is_password(password):
            return False
        digest = self._digest(username, password)
        if hmac.compare_digest(self._right.get(username, self._key), digest):
            return True
        return False if digest in self._wrong else None

    async def check(self, username: str, password: str, *, client: str = "") -> bool:
        """Whether there is such a user with this password. An unknown user takes as long as a known one.

        :class:`UserLimitError` if too many passwords wait already, in all or of this ``client``.
        """
        known = self.check_now(username, password)
        if known is not None:
            return known
        if self._waiting[client] >= MAX_CHECKS_OF_CLIENT or self._waiting.total() >= MAX_CHECKS:
            raise UserLimitError("Too many passwords wait to be checked", hint="Try again in a moment")
        hashed = self._hashes.get(username, self._nobody)
        self._waiting[client] += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._thread, hashed.matches, password)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
        digest = self._digest(username, password)
        if right and username in self._hashes:
            self._right[username] = digest
            return True
        while len(self._wrong) >= MAX_WRONG:
            del self._wrong[next(iter(self._wrong))]  # the oldest
        self._wrong[digest] = None
        return False

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _digest(self, username: str, password: str) -> bytes:
        text = f"{len(username)}:{username}{password}"
        return hmac.digest(self._key, text.encode(errors="surrogateescape"), "sha256")


class ClientAddresses(Networks):
    """The networks that clients may come from."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Addresses and CIDRs, at least one. :class:`AuthMissingError`, :class:`InvalidError`."""
        super().__init__(networks, what="the network of a client")
        if not self:
            raise AuthMissingError("No client is allowed", hint="Name the networks that clients come from")


# --- limits -------------------------------------------------------------------------------------

BURST = 2.0
"""Seconds' worth of connections that may come at once: a browser opens a page's all together."""


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What one user may take of a proxy. 0: no limit."""

    connections: int = 0
    """Connections and UDP associations at once."""

    per_second: float = 0.0
    """New ones a second; as many may come at once as in two seconds."""


@dataclass(slots=True)
class _Account:
    connections: int
    allowance: float
    updated: float


class Quota:
    """Counts what each user has, on one event loop."""

    def __init__(self, limits: UserLimits) -> None:
        self._limits = limits
        self._burst = max(1.0, BURST * limits.per_second)
        self._accounts: dict[str, _Account] = {}

    def take(self, user: str, now: float) -> None:
        """One more for ``user``; :class:`UserLimitError` if that is too much. ``now``: monotonic seconds.

        Each that is taken is given back once.
        """
        limits = self._limits
        account = self._accounts.get(user)
        if account is None:
            self._forget_some(now)
            account = self._accounts[user] = _Account(0, self._burst, now)
        if limits.connections and account.connections >= limits.connections:
            raise UserLimitError(f"{limits.connections} connections at once are the limit")
        if limits.per_second:
            self._refill(account, now)
            if account.allowance < 1.0:
                raise UserLimitError(f"{limits.per_second:g} new connections a second are the limit")
            account.allowance -= 1.0
        account.connections += 1

    def give_back(self, user: str) -> None:
        """One less."""
        account = self._accounts[user]
        account.connections -= 1
        if not account.connections and not self._limits.per_second:
            del self._accounts[user]

    def _refill(self, account: _Account, now: float) -> None:
        earned = (now - account.updated) * self._limits.per_second
        account.allowance = min(self._burst, account.allowance + earned)
        account.updated = now

    def _forget_some(self, now: float) -> None:
        """Of the two that were looked at longest ago, those who have nothing and may have all again.

        One comes and up to two go: so they stay few, without a look at all of them.
        """
        for user in list(itertools.islice(self._accounts, 2)):
            account = self._accounts.pop(user)
            self._refill(account, now)
            if account.connections or account.allowance < self._burst:
                self._accounts[user] = account
