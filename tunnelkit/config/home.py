"""Where this user's store is, and the one that a program shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunnelkit.config.store import Prompt, Store

__all__ = ["data_directory", "open_store", "shared_store"]


def data_directory(environ: Mapping[str, str] | None = None) -> Path:
    """``TUNNELKIT_HOME``, or ``tunnelkit`` in the user's data directory. Raises StoreError without a home."""
    raise NotImplementedError


def open_store(
    directory: Path | None = None, *, environ: Mapping[str, str] | None = None, prompt: Prompt | None = None
) -> Store:
    """The store in ``directory`` (None: :func:`data_directory`), which is opened when it is first used.

    The key comes from what ``environ`` says; ``prompt`` asks for a passphrase where that is what the store
    needs and the environment has none. Close it, or use it in ``contextlib.closing``.
    """
    raise NotImplementedError


def shared_store() -> Store:
    """The store of :func:`data_directory` that everybody in this program uses. Not to be closed."""
    raise NotImplementedError
