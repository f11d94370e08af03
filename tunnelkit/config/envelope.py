"""Values under a data key, the data key under a key-encryption key.

Each version of a secret has a random data key of its own. AES-256-GCM (NIST SP 800-38D) encrypts the values
with it, one by one, and encrypts ("wraps") the data key with the key-encryption key. What a ciphertext is
about is authenticated with it (kind, environment, name and version, and the name of its variable; for the
data key the names of all of them), so that none can stand in the place of another, nor be left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnelkit.config.masked import Masked
from tunnelkit.config.store import Ref, Variables
from tunnelkit.errors import StoreDamagedError

if TYPE_CHECKING:
    from tunnelkit.config.keys import MasterKey

__all__ = ["DATA_KEY_SIZE", "NONCE_SIZE", "Place", "open_values", "rewrap", "seal_values"]

DATA_KEY_SIZE = 32
NONCE_SIZE = 12
"""Bytes. Random ones are safe for 2³² messages a key (SP 800-38D §8.3); a data key has a thousand at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a data key is for: one version of an object, with its variables."""

    ref: Ref
    version: int
    keys: tuple[str, ...]
    """Sorted."""

    def of_data_key(self) -> bytes:
        return self._joined("data key", *self.keys)

    def of_value(self, key: str) -> bytes:
        return self._joined("value", key)

    def _joined(self, *more: str) -> bytes:
        # No part can hold a NUL: names and variables are letters, digits and a few signs.
        kind, name, environment = self.ref
        return "\0".join(("tunnelkit 1", kind, environment, name, str(self.version), *more)).encode()


def seal_values(master: MasterKey, place: Place, variables: Variables) -> tuple[bytes, dict[str, bytes]]:
    """A new data key, wrapped, and the values encrypted with it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key = secrets.token_bytes(DATA_KEY_SIZE)
    cipher = AESGCM(data_key)
    sealed = {}
    for key, value in variables.items():
        nonce = secrets.token_bytes(NONCE_SIZE)
        text = value.reveal().encode(errors="surrogateescape")
        sealed[key] = nonce + cipher.encrypt(nonce, text, place.of_value(key))
    return master.wrap(data_key, place.of_data_key()), sealed


def open_values(
    master: MasterKey, place: Place, wrapped: bytes, sealed: Mapping[str, bytes]
) -> dict[str, Masked]:
    """The values. Raises StoreDamagedError if anything is not exactly as it was sealed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(_unwrap(master, place, wrapped))
    if sealed.keys() != set(place.keys):
        raise _damaged(place)
    try:
        return {
            key: Masked(
                cipher.decrypt(value[:NONCE_SIZE], value[NONCE_SIZE:], place.of_value(key)).decode(
                    errors="surrogateescape"
                )
            )
            for key, value in sealed.items()
        }
    except (InvalidTag, ValueError):
        raise _damaged(place) from None


def rewrap(old: MasterKey, new: MasterKey, place: Place, wrapped: bytes) -> bytes:
    """The same data key under another key-encryption key. Raises StoreDamagedError."""
    return new.wrap(_unwrap(old, place, wrapped), place.of_data_key())


def _unwrap(master: MasterKey, place: Place, wrapped: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return master.unwrap(wrapped, place.of_data_key())
    except (InvalidTag, ValueError):
        raise _damaged(place) from None


def _damaged(place: Place) -> StoreDamagedError:
    return StoreDamagedError(
        f"Version {place.version} of {place.ref} is not what was written: damaged, or tampered with"
    )
