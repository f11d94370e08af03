"""Messages that only two processes can read, whoever carries them and wherever they are kept on the way.

The two exchange public keys (X25519, RFC 7748), derive a key for each direction (HKDF-SHA256, RFC 5869)
and seal each message with AES-256-GCM. The private halves are made for one channel and never leave
their processes. Nonces count, so a message that is repeated, left out or changed does not open.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["Channel"]

NONCE_SIZE: Final = 12
KEY_SIZE: Final = 32
INFO: Final = b"tunnelkit functions 1"


class Channel:
    """One end. Messages are opened in the order in which the other end sealed them."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()
        """32 bytes for the other end."""

    def connect(self, other: bytes, *, first: bool) -> None:
        """Be ready to seal and open; just one of the two ends is ``first``. Raises ValueError."""
        secret = self._private.exchange(X25519PublicKey.from_public_bytes(other))
        both = self.public + other if first else other + self.public
        keys = HKDF(SHA256(), 2 * KEY_SIZE, salt=both, info=INFO).derive(secret)
        mine, theirs = keys[:KEY_SIZE], keys[KEY_SIZE:]
        if not first:
            mine, theirs = theirs, mine
        self._sealing, self._opening = AESGCM(mine), AESGCM(theirs)
        self._sealed = self._opened = 0

    def seal(self, message: bytes) -> bytes:
        self._sealed += 1
        return self._sealing.encrypt(self._sealed.to_bytes(NONCE_SIZE, "big"), message, None)

    def open(self, sealed: bytes) -> bytes:
        """Raises ValueError for anything but the next message of the other end."""
        self._opened += 1
        try:
            return self._opening.decrypt(self._opened.to_bytes(NONCE_SIZE, "big"), sealed, None)
        except InvalidTag:
            raise ValueError("a message that is not the other end's next one") from None
