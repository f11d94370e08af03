"""The store as commands use it, and how they print what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

import click

from tunnelkit.cli.asking import ask_passphrase, can_ask
from tunnelkit.cli.output import printable
from tunnelkit.config import load_zones
from tunnelkit.config.environment import environment
from tunnelkit.config.home import open_store
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
    click.echo(json.dumps(value, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns, aligned; nothing is cut off."""
    lines = [headings, *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def say(text: str) -> None:
    """What a command has done: on standard error, so that standard output is the answer alone."""
    click.echo(printable(text), err=True)
