"""Hashes of passwords: scrypt (RFC 7914), written in the PHC string format.

::

    $scrypt$ln=14,r=8,p=5$SALT$HASH
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Self

from tunnelkit.errors import InvalidError

__all__ = ["PasswordHash", "hash_password", "is_password"]

LOG_N, BLOCK, PARALLEL = 14, 8, 5
"""OWASP's cheat sheet on storing passwords asks for this of scrypt, in its variant with 16 MiB."""

SALT_SIZE = 16
HASH_SIZE = 32

MAX_MEMORY = 256 * 1024 * 1024
"""Bytes that a hash from a file may take to check."""

MAX_PARALLEL = 16
"""Factor that such a hash may take beyond that in time."""

MAX_PASSWORD = 1024
"""Bytes of a password; SOCKS5 has 255, and HTTP heads end somewhere, too."""

_FORMAT = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,3}),p=([0-9]{1,3})\$([\w+/-]{11,88})\$([\w+/-]{22,88})"
)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """One hash; ``str`` is what a file keeps, ``repr`` shows nothing of it."""

    log_n: int
    block: int
    parallel: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """As :func:`hash_password` writes it. :class:`InvalidError`, which does not show ``text``."""
        match = _FORMAT.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            log_n, block, parallel = map(int, match.groups()[:3])
            salt, digest = map(_from_base64, match.groups()[3:])
        except ValueError:
            raise InvalidError("It is no hash of a password", hint=_HINT) from None
        if not (log_n and block and 0 < parallel <= MAX_PARALLEL and (block << log_n) * 128 <= MAX_MEMORY):
            raise InvalidError("The hash of a password takes too much to check, or nothing", hint=_HINT)
        return cls(log_n, block, parallel, salt, digest)

    @classmethod
    def make(cls, password: str) -> Self:
        """The hash of ``password``, with a salt of its own."""
        salt = secrets.token_bytes(SALT_SIZE)
        empty = cls(LOG_N, BLOCK, PARALLEL, salt, bytes(HASH_SIZE))
        return cls(LOG_N, BLOCK, PARALLEL, salt, empty.compute(password))

    def __str__(self) -> str:
        parameters = f"ln={self.log_n},r={self.block},p={self.parallel}"
        return f"$scrypt${parameters}${_to_base64(self.salt)}${_to_base64(self.digest)}"

    def compute(self, password: str) -> bytes:
        """The digest of ``password``, with the same salt and parameters. Frees the interpreter's lock."""
        return hashlib.scrypt(
            password.encode(errors="surrogateescape"),
            salt=self.salt,
            n=1 << self.log_n,
            r=self.block,
            p=self.parallel,
            maxmem=2 * MAX_MEMORY,
            dklen=len(self.digest),
        )

    def matches(self, password: str) -> bool:
        """Whether ``password`` is the one; takes equally long either way."""
        return hmac.compare_digest(self.compute(password), self.digest)


_HINT = "A hash starts with $scrypt$; make one with: tunnelkit egress user NAME"


def is_password(password: str) -> bool:
    """Whether ``password`` can be one. Zeros cannot: at its end, the HMAC in scrypt ignores them."""
    return 0 < len(password.encode(errors="surrogateescape")) <= MAX_PASSWORD and "\0" not in password


def hash_password(password: str) -> str:
    """The hash to keep of ``password``; takes a fifth of a second. InvalidError for an empty one."""
    if not is_password(password):
        raise InvalidError(f"A password has 1 to {MAX_PASSWORD} bytes, and no zero among them")
    return str(PasswordHash.make(password))


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError from error
