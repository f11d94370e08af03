"""Who did what, when: the log of a store, and whose doing it is."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunnelkit.config.database import typed
from tunnelkit.config.store import AuditEntry

__all__ = ["AUDIT_KEPT", "actor", "moment", "newest", "now", "process", "record"]

AUDIT_KEPT = 100_000
"""Entries; beyond them the oldest go. Some 20 MB, and years of what people do."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """As an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def actor() -> str:
    """The user that this process runs as."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):  # not everywhere; nor has a container's user a name
        return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else os.environ.get("USERNAME", "unknown")


def process() -> str:
    """This process: its number and the program's name. Never its arguments, which may hold a secret."""
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.name  # python -m tunnelkit
    return f"{os.getpid()} ({name[:64] or 'python'})"


def record(
    connection: sqlite3.Connection,
    action: str,
    about: tuple[str, str, str],
    *,
    keys: Iterable[str] = (),
    version: int | None = None,
) -> None:
    """Write an entry about (kind, name, environment) in the transaction of what it tells of."""
    kind, name, environment = about
    row = (now(), action, kind, environment, name, " ".join(keys), version, actor(), process())
    place = connection.execute(
        "INSERT INTO audit (time, action, kind, environment, name, keys, version, actor, process)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    ).lastrowid
    connection.execute("DELETE FROM audit WHERE id <= ?", ((place or 0) - AUDIT_KEPT,))


_KINDS = (int, str, str, str, str, str, int | None, str, str)


def newest(connection: sqlite3.Connection, limit: int) -> list[AuditEntry]:
    """Newest first."""
    rows = connection.execute(
        "SELECT time, action, kind, environment, name, keys, version, actor, process"
        " FROM audit ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [
        AuditEntry(moment(time_), action, kind, environment, name, tuple(keys.split()), *rest)
        for time_, action, kind, environment, name, keys, *rest in (typed(row, _KINDS) for row in rows)
    ]
