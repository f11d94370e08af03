"""Which key a store is written with, and how it changes to another.

A rotation puts a second key beside the first, wraps every data key again, some at a time, and then drops the
first. Meanwhile each version names the key that it needs, and writers use the second: wherever a rotation
is killed, everything can be read, and the next one goes on. Values are not touched.
"""

from __future__ import annotations

import sqlite3

from tunnelkit.config.audit import now, record
from tunnelkit.config.database import Database, typed
from tunnelkit.config.envelope import Place, rewrap
from tunnelkit.config.keys import KeyRow, Keys, MasterKey
from tunnelkit.config.store import Kind, Ref, Rotation
from tunnelkit.errors import InvalidError, MasterKeyError, StoreDamagedError

__all__ = ["BATCH", "find", "key_for_writing", "rotate"]

BATCH = 500
"""Data keys wrapped again in one transaction: others wait for some twenty milliseconds at most."""


def find(connection: sqlite3.Connection, keys: Keys, key_id: str) -> MasterKey:
    """The key of that id. Raises MasterKeyError."""
    rows = {row.id: row for row in _rows(connection)}
    if key_id not in rows:
        raise _unknown(key_id)
    return keys.find(rows[key_id], rows.values())


def _unknown(key_id: str) -> StoreDamagedError:
    return StoreDamagedError(f"The store is damaged: it does not know its own key {key_id[:16]!r}")


def key_for_writing(connection: sqlite3.Connection, keys: Keys) -> MasterKey:
    """The key that new versions are written with; an empty store gets its first one here."""
    rows = _rows(connection)
    if not rows:
        key = keys.create()
        _remember(connection, key, is_next=False)
        return key
    return keys.find(rows[-1], rows)


def rotate(database: Database, keys: Keys, to: str | None) -> Rotation:
    """See :meth:`~tunnelkit.config.store.Store.rotate_key`."""
    rewrapped = 0
    while True:
        with database.writing() as connection:
            old, new = _begin(connection, keys, to)
        while count := _some(database, keys, new):
            rewrapped += count
        with database.writing() as connection:
            ended = _end(connection, old, new)
        if ended:
            keys.discard(old)
        if ended and keys.is_wanted(new, to):
            return Rotation(old.id, new.id, new.source, rewrapped)


def _begin(connection: sqlite3.Connection, keys: Keys, to: str | None) -> tuple[KeyRow, KeyRow]:
    """The key until now and the one to come: of a rotation that was interrupted, or of a new one."""
    rows = _rows(connection)
    if not rows:
        raise InvalidError("The store is empty and has no key yet", hint="It gets one with the first secret")
    if len(rows) == 2 and not _can_go_on(connection, keys, rows):
        keys.discard(rows.pop())
    if len(rows) == 1:
        rows.append(_new_key(connection, keys, to, rows[0]))
    return rows[0], rows[1]


def _can_go_on(connection: sqlite3.Connection, keys: Keys, rows: list[KeyRow]) -> bool:
    """Whether the interrupted rotation's key is there. If it is lost, and nothing needs it, it is dropped."""
    new = rows[1].id
    try:
        keys.find_any(rows[1])
    except MasterKeyError:
        if connection.execute("SELECT 1 FROM versions WHERE master = ? LIMIT 1", (new,)).fetchone():
            raise
        connection.execute("DELETE FROM masters WHERE id = ?", (new,))
        return False
    return True


def _new_key(connection: sqlite3.Connection, keys: Keys, to: str | None, old: KeyRow) -> KeyRow:
    key = keys.create(to, like=old)
    row = KeyRow(key.id, key.source, key.derivation)
    if row.id == old.id:
        hint = "Put the new key there, and the one before in TUNNELKIT_OLD_MASTER_KEY"
        raise InvalidError("The key that is set is the store's key already", hint=hint)
    try:
        keys.find_any(old)
    except MasterKeyError:
        keys.discard(row)
        raise
    _remember(connection, key, is_next=True)
    return row


def _some(database: Database, keys: Keys, new: KeyRow) -> int:
    """Wrap a batch of data keys again; how many there were."""
    with database.writing() as connection:
        batch = connection.execute(
            "SELECT versions.object, versions.number, versions.keys, versions.master, versions.wrapped,"
            " objects.kind, objects.name, environments.name"
            " FROM versions JOIN objects ON objects.id = versions.object"
            " JOIN environments ON environments.id = objects.environment"
            " WHERE versions.master <> ? LIMIT ?",
            (new.id, BATCH),
        ).fetchall()
        rows = {row.id: row for row in _rows(connection)}
        for row in batch:
            item, number, names, master, wrapped, kind, name, environment = typed(row, _KINDS)
            if master not in rows:
                raise _unknown(master)
            before, after = (keys.find_any(rows[key_id]) for key_id in (master, new.id))
            place = Place(Ref(Kind(kind), name, environment), number, tuple(names.split()))
            connection.execute(
                "UPDATE versions SET master = ?, wrapped = ? WHERE object = ? AND number = ?",
                (new.id, rewrap(before, after, place, wrapped), item, number),
            )
    return len(batch)


_KINDS = (int, int, str, str, bytes, str, str, str)


def _end(connection: sqlite3.Connection, old: KeyRow, new: KeyRow) -> bool:
    """Make the new key the only one; False if another process has begun the next rotation meanwhile."""
    if old in _rows(connection):
        connection.execute("DELETE FROM masters WHERE id = ?", (old.id,))
        connection.execute("UPDATE masters SET next = 0 WHERE id = ?", (new.id,))
        record(connection, "rotate-key", ("store", new.id, ""))
    return [row.id for row in _rows(connection)] == [new.id]


def _rows(connection: sqlite3.Connection) -> list[KeyRow]:
    """The keys of the store, the one that a rotation leads to last."""
    rows = connection.execute("SELECT id, source, derivation FROM masters ORDER BY next")
    return [KeyRow(*typed(row, (str, str, str))) for row in rows]


def _remember(connection: sqlite3.Connection, key: MasterKey, *, is_next: bool) -> None:
    connection.execute(
        "INSERT INTO masters (id, source, derivation, created_at, next) VALUES (?, ?, ?, ?, ?)",
        (key.id, key.source, key.derivation, now(), is_next),
    )
