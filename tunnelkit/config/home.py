"""Where this user's store is, and the one that a program shares."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from tunnelkit.config.files import expanded
from tunnelkit.config.keys import KeySettings
from tunnelkit.config.sqlite import SqliteStore
from tunnelkit.config.store import Prompt, Store
from tunnelkit.errors import StoreError

__all__ = ["VARIABLE", "data_directory", "open_store", "shared_store"]

VARIABLE = "TUNNELKIT_HOME"

STORES = 4
"""Stores that a program holds open: one, unless it changes its environment as it goes, as tests do."""


def data_directory(environ: Mapping[str, str] | None = None) -> Path:
    """``TUNNELKIT_HOME``, or ``tunnelkit`` in the user's data directory. Raises StoreError without a home."""
    given = (os.environ if environ is None else environ).get(VARIABLE, "")
    if given:
        return expanded(given).absolute()
    from platformdirs import user_data_path  # milliseconds, and only here

    try:
        path = user_data_path("tunnelkit", appauthor=False)
    except RuntimeError:  # neither HOME nor the password file knows a home
        path = Path("~")
    if not path.is_absolute():  # as older versions of platformdirs say so
        raise StoreError(
            "This user has no home directory for a store", hint=f"Name a directory with {VARIABLE}"
        )
    return path


def open_store(
    directory: Path | None = None, *, environ: Mapping[str, str] | None = None, prompt: Prompt | None = None
) -> Store:
    """The store in ``directory`` (None: :func:`data_directory`), which is opened when it is first used.

    The key comes from what ``environ`` says; ``prompt`` asks for a passphrase where that is what the store
    needs and the environment has none. Close it, or use it in ``contextlib.closing``.
    """
    environ = os.environ if environ is None else environ
    return SqliteStore(directory or data_directory(environ), KeySettings.read(environ), prompt)


def shared_store() -> Store:
    """The store of :func:`data_directory` that everybody in this program uses. Not to be closed."""
    return _shared(data_directory(), KeySettings.read(os.environ))


@functools.lru_cache(STORES)
def _shared(directory: Path, settings: KeySettings) -> Store:
    return SqliteStore(directory, settings)
