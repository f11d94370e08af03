"""Keys in the keyring of the operating system, by the keyring package (the extra ``keyring``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunnelkit.errors import MasterKeyError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["SERVICE", "delete", "get", "put"]

SERVICE = "tunnelkit"
"""What the keyring files our keys under, each with its id as the name of the user."""


def get(key_id: str) -> str:
    """The key in base64. Raises MasterKeyError."""
    with _keyring() as keyring:
        text = keyring.get_password(SERVICE, key_id)
    if text is None:
        raise MasterKeyError(
            f"The keyring does not have the store's key {key_id}",
            hint="Unlock or restore the keyring of this user",
        )
    return str(text)


def put(key_id: str, text: str) -> None:
    """Keep a key. Raises MasterKeyError."""
    with _keyring() as keyring:
        keyring.set_password(SERVICE, key_id, text)


def delete(key_id: str) -> None:
    """Delete a key. Raises MasterKeyError."""
    with _keyring() as keyring:
        keyring.delete_password(SERVICE, key_id)


@contextlib.contextmanager
def _keyring() -> Iterator[ModuleType]:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise MasterKeyError(
            "The package keyring is not installed", hint="Install it with: pip install 'tunnelkit[keyring]'"
        ) from None
    try:
        yield keyring
    except KeyringError as error:
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise MasterKeyError(
            f"The keyring cannot be used: {first_line}", hint="Is one running and unlocked?"
        ) from None
