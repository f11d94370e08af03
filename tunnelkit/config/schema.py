"""The tables of the store, as the steps that lead to them from an empty file."""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS"]

MIGRATIONS: Final = (
    # A step that has been released is never changed; what changes becomes a new one.
    # Times are microseconds since 1970. Lists of variables are sorted, with spaces between.
    (
        """CREATE TABLE environments (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            created_at INTEGER NOT NULL,
            created_by TEXT NOT NULL
        )""",
        """CREATE TABLE objects (
            id INTEGER PRIMARY KEY,
            environment INTEGER NOT NULL REFERENCES environments ON DELETE CASCADE,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            version INTEGER NOT NULL,  -- the current one
            created_at INTEGER NOT NULL,
            created_by TEXT NOT NULL,
            used_at INTEGER,
            used_by TEXT,
            UNIQUE (environment, kind, name)
        )""",
        """CREATE TABLE versions (
            object INTEGER NOT NULL REFERENCES objects ON DELETE CASCADE,
            number INTEGER NOT NULL,
            keys TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            created_by TEXT NOT NULL,
            master TEXT NOT NULL REFERENCES masters,
            wrapped BLOB NOT NULL,  -- the data key
            PRIMARY KEY (object, number)
        )""",
        "CREATE INDEX versions_by_master ON versions (master)",
        """CREATE TABLE variables (
            object INTEGER NOT NULL,
            number INTEGER NOT NULL,
            key TEXT NOT NULL,
            sealed BLOB NOT NULL,
            PRIMARY KEY (object, number, key),
            FOREIGN KEY (object, number) REFERENCES versions ON DELETE CASCADE
        )""",
        """CREATE TABLE masters (
            id TEXT PRIMARY KEY,
            source TEXT NOT NULL,
            derivation TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            next INTEGER NOT NULL  -- 1 for the one that a rotation leads to
        )""",
        """CREATE TABLE audit (
            id INTEGER PRIMARY KEY,
            time INTEGER NOT NULL,
            action TEXT NOT NULL,
            kind TEXT NOT NULL,
            environment TEXT NOT NULL,
            name TEXT NOT NULL,
            keys TEXT NOT NULL,
            version INTEGER,
            actor TEXT NOT NULL,
            process TEXT NOT NULL
        )""",
        """INSERT INTO environments (name, created_at, created_by)
            VALUES ('main', CAST(1e6 * (julianday('now') - 2440587.5) * 86400 AS INTEGER), 'tunnelkit')""",
    ),
)
