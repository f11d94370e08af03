"""Variables from files: ``.env`` as python-dotenv reads it, and JSON."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_dotenv", "read_dotenv", "read_json"]


def find_dotenv(filename: str = ".env", start: Path | None = None) -> Path:
    """The file in ``start`` (the working directory) or the nearest directory above. Raises NotFoundError."""
    raise NotImplementedError


def read_dotenv(path: str | Path, *, interpolate: bool = True) -> dict[str, str | None]:
    """What a ``.env`` file sets; None for a name without ``=``. ``-`` is standard input.

    ``interpolate``: ``${NAME}`` and ``${NAME:-default}`` stand for earlier variables of the file and those
    of this process. Raises NotFoundError, and InvalidError with the line where it cannot be read.
    """
    raise NotImplementedError


def read_json(path: str | Path) -> dict[str, str | None]:
    """The variables of a JSON file: one object, whose values are strings or null. ``-`` is standard input.

    Raises NotFoundError, and InvalidError with line and column where it is malformed.
    """
    raise NotImplementedError
