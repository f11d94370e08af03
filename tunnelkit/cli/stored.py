"""The store as commands use it, and how they print what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

import click

from tunnelkit.cli.asking import ask_passphrase, can_ask
from tunnelkit.cli.output import discard, printable
from tunnelkit.config import load_zones
from tunnelkit.config.environment import environment
from tunnelkit.config.home import data_directory, open_store
from tunnelkit.config.sqlite import FILE_NAME
from tunnelkit.config.store import Entry, Kind, Store
from tunnelkit.errors import TunnelkitError

__all__ = ["about", "moment", "names_of", "opened", "print_json", "print_table", "say"]


@contextmanager
def opened() -> Iterator[Store]:
    """This user's store; a passphrase is asked for where somebody can answer."""
    with closing(open_store(prompt=ask_passphrase if can_ask() else None)) as store:
        yield store


def names_of(what: str, env: str | None) -> list[str]:
    """The names that complete a command line; none where the store cannot be read without questions."""
    kinds: dict[str, Callable[[Store], Iterable[str]]] = {
        "environment": lambda store: (entry.name for entry in store.environments()),
        "secret": lambda store: (entry.ref.name for entry in store.entries(Kind.SECRET, environment(env))),
        "proxy": lambda store: (entry.ref.name for entry in store.entries(Kind.PROXY, environment(env))),
    }
    try:
        if what == "zone":
            return list(load_zones())
        if not (data_directory() / FILE_NAME).exists():  # pressing Tab makes no store
            return []
        with closing(open_store()) as store:
            return list(kinds[what](store))
    except (TunnelkitError, OSError):
        return []


def about(entry: Entry) -> dict[str, object]:
    """What ``--json`` tells of a secret or a proxy."""
    return {
        "name": entry.ref.name,
        "environment": entry.ref.environment,
        "keys": list(entry.keys),
        "version": entry.version,
        "created_at": entry.created_at.isoformat(),
        "created_by": entry.created_by,
        "updated_at": entry.updated_at.isoformat(),
        "updated_by": entry.updated_by,
        "last_used_at": entry.last_used_at.isoformat() if entry.last_used_at else None,
        "last_used_by": entry.last_used_by,
    }


def moment(time: datetime | None) -> str:
    """A time for people, in their own zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time is not None else "never"


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    _print(json.dumps(value, indent=2))


def print_table(headings: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> None:
    """Columns, aligned; nothing is cut off."""
    lines: list[Sequence[str]] = [[printable(str(cell)) for cell in row] for row in rows]
    if headings is not None:
        lines.insert(0, headings)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    _print("\n".join("  ".join(cells).rstrip() for cells in aligned))


def _print(text: str) -> None:
    """Write an answer to standard output. A reader that has gone is click's to deal with: it ends quietly."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would be written, and fail, once more at the interpreter's end.
        discard(sys.stdout)
        raise TunnelkitError(f"Standard output takes no more: {error.strerror}") from None


def say(text: str) -> None:
    """What a command has done: on standard error, so that standard output is the answer alone."""
    click.echo(printable(text), err=True)
