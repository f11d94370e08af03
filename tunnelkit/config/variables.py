"""Variables of the environment that are no settings of an agent or a relay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tunnelkit.errors import InvalidError

__all__ = ["LOG_LEVELS", "VARIABLES", "Variable", "log_level"]

LOG_LEVELS = ("debug", "info", "warning", "error")


def log_level(environ: Mapping[str, str]) -> str:
    """What ``TUNNELKIT_LOG`` says. Raises InvalidError."""
    level = environ.get("TUNNELKIT_LOG", "").lower() or "warning"
    if level not in LOG_LEVELS:
        raise InvalidError(
            f"TUNNELKIT_LOG={level!r} is no level", hint=f"Give one of {', '.join(LOG_LEVELS)}"
        )
    return level


class Variable(NamedTuple):
    """One variable, as ``docs/reference/settings.md`` and ``tunnelkit config show`` tell of it."""

    name: str
    about: str
    default: str = ""
    secret: bool = False


VARIABLES = (
    Variable("TUNNELKIT_LOG", f"How much is logged: {', '.join(LOG_LEVELS)}.", "warning"),
    Variable("TUNNELKIT_ENVIRONMENT", "The environment whose secrets and proxies are meant.", "main"),
    Variable("TUNNELKIT_HOME", "The directory of the store.", "`tunnelkit` in the user's data directory"),
    Variable("TUNNELKIT_MASTER_KEY", "The store's key: 32 bytes in base64 or hexadecimal.", secret=True),
    Variable("TUNNELKIT_MASTER_KEY_FILE", "A file with that key, which nobody else can read."),
    Variable("TUNNELKIT_KEYRING", "`1`: the key is in the system's keyring (`tunnelkit[keyring]`)."),
    Variable("TUNNELKIT_PASSPHRASE", "The key is made of this passphrase.", secret=True),
    Variable("TUNNELKIT_PASSPHRASE_FILE", "A file with that passphrase, which nobody else can read."),
    Variable("TUNNELKIT_OLD_MASTER_KEY", "For `rotate-key`: the key before.", secret=True),
    Variable("TUNNELKIT_OLD_MASTER_KEY_FILE", "For `rotate-key`: a file with the key before."),
    Variable("TUNNELKIT_OLD_PASSPHRASE", "For `rotate-key`: the passphrase before.", secret=True),
    Variable("TUNNELKIT_OLD_PASSPHRASE_FILE", "For `rotate-key`: a file with the passphrase before."),
)
