"""Which key a store is written with, and how it changes to another.

A rotation puts a second key beside the first, wraps every data key again, some at a time, and then drops the
first. Meanwhile each version names the key that it needs, and writers use the second: wherever a rotation
is killed, everything can be read, and the next one goes on. Values are not touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from tunnelkit.config.audit import now, record
from tunnelkit.config.database import Database, typed
from tunnelkit.config.envelope import Place, rewrap
from tunnelkit.config.keys import KeyRow, Keys, MasterKey
from tunnelkit.config.store import Kind, Ref, Rotation
from tunnelkit.errors import InvalidError, MasterKeyError, StoreDamagedError

__all__ = ["BATCH", "get_key", "key_for_writing", "rotate", "row_of", "rows"]

BATCH = 500
"""Data keys wrapped again in one transaction: others wait for milliseconds."""


def rows(connection: sqlite3.Connection) -> list[KeyRow]:
    """The keys of the store, the one that is to be written with last."""
    found = connection.execute("SELECT id, source, derivation FROM masters ORDER BY next")
    return [KeyRow(*typed(row, (str, str, str))) for row in found]


def row_of(rows: Iterable[KeyRow], key_id: str) -> KeyRow:
    """The one with that id. Raises StoreDamagedError."""
    for row in rows:
        if row.id == key_id:
            return row
    raise StoreDamagedError(f"The store is damaged: it does not know its own key {key_id[:16]!r}")


def get_key(database: Database, keys: Keys) -> None:
    """Find the key to write with, before the store is locked: a person may be asked for a passphrase.

    An empty store gets its first key here.
    """
    with database.reading() as connection:
        known = rows(connection)
    if known:
        keys.find(known[-1], known)
        return
    made: KeyRow | None = None
    try:
        with database.writing() as connection:
            if not rows(connection):
                key = keys.create()
                made = KeyRow(key.id, key.source, key.derivation)
                _remember(connection, key, is_next=False)
    except BaseException:
        if made is not None:
            keys.discard(made)
        raise


def key_for_writing(connection: sqlite3.Connection, keys: Keys) -> MasterKey:
    """The key that new versions are written with, after :func:`get_key`."""
    known = rows(connection)
    return keys.find(known[-1], known)


def rotate(database: Database, keys: Keys, to: str | None) -> Rotation:
    """See :meth:`~tunnelkit.config.store.Store.rotate_key`."""
    rewrapped = 0
    while (
        True
    ):  # until the key is the one that is wanted: first an interrupted rotation is brought to its end
        if (begun := _begin(database, keys, to)) is None:
            continue
        old, new = begun
        while count := _some(database, keys, new):
            rewrapped += count
        with database.writing() as connection:
            ended = _end(connection, old, new)
        if ended:
            keys.discard(old)
        if ended and keys.is_wanted(new, to):
            return Rotation(old.id, new.id, new.source, rewrapped)


def _begin(database: Database, keys: Keys, to: str | None) -> tuple[KeyRow, KeyRow] | None:
    """The key until now and the one to come: of a rotation that was interrupted, or of a new one.

    Keys are found and made without the lock, for a person may be asked for a passphrase. None: another
    process has changed them meanwhile.
    """
    with database.reading() as connection:
        known = rows(connection)
    if not known:
        raise InvalidError("The store is empty and has no key yet", hint="It gets one with the first secret")
    if len(known) == 2:
        return (known[0], known[1]) if _can_go_on(database, keys, known[1]) else None
    old = known[0]
    keys.find_any(old)
    key = keys.create(to, like=old)
    new = KeyRow(key.id, key.source, key.derivation)
    if new.id == old.id:
        hint = "Put the new key there, and the one before in TUNNELKIT_OLD_MASTER_KEY"
        raise InvalidError("The key that is set is the store's key already", hint=hint)
    remembered = False
    try:
        with database.writing() as connection:
            if rows(connection) == known:
                _remember(connection, key, is_next=True)
                remembered = True
    finally:
        if not remembered:
            keys.discard(new)
    return (old, new) if remembered else None


def _can_go_on(database: Database, keys: Keys, new: KeyRow) -> bool:
    """Whether the interrupted rotation's key is there. If it is lost, and nothing needs it, it is dropped."""
    try:
        keys.find_any(new)
    except MasterKeyError:
        with database.writing() as connection:
            if connection.execute("SELECT 1 FROM versions WHERE master = ? LIMIT 1", (new.id,)).fetchone():
                raise
            connection.execute("DELETE FROM masters WHERE id = ? AND next", (new.id,))
        keys.discard(new)
        return False
    return True


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
        known = {row.id: row for row in rows(connection)}
        if new.id not in known:  # another process has gone on to the next key
            return 0
        for row in batch:
            item, number, names, master, wrapped, kind, name, environment = typed(row, _KINDS)
            before = keys.find_any(row_of(known.values(), master))
            after = keys.find_any(new)
            place = Place(Ref(Kind(kind), name, environment), number, tuple(names.split()))
            connection.execute(
                "UPDATE versions SET master = ?, wrapped = ? WHERE object = ? AND number = ?",
                (new.id, rewrap(before, after, place, wrapped), item, number),
            )
    return len(batch)


_KINDS = (int, int, str, str, bytes, str, str, str)


def _end(connection: sqlite3.Connection, old: KeyRow, new: KeyRow) -> bool:
    """Make the new key the only one; False if another process has begun the next rotation meanwhile."""
    if old in rows(connection):
        connection.execute("DELETE FROM masters WHERE id = ?", (old.id,))
        connection.execute("UPDATE masters SET next = 0 WHERE id = ?", (new.id,))
        record(connection, "rotate-key", ("store", new.id, ""))
    return [row.id for row in rows(connection)] == [new.id]


def _remember(connection: sqlite3.Connection, key: MasterKey, *, is_next: bool) -> None:
    connection.execute(
        "INSERT INTO masters (id, source, derivation, created_at, next) VALUES (?, ?, ?, ?, ?)",
        (key.id, key.source, key.derivation, now(), is_next),
    )
