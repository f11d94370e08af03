"""The store in one SQLite file, its values encrypted. :mod:`tunnelkit.config.store` says what it does."""

from __future__ import annotations

import difflib
import math
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tunnelkit.config import audit, rotation
from tunnelkit.config.audit import actor, moment, now, process, record
from tunnelkit.config.database import Database, typed
from tunnelkit.config.envelope import Place, open_values, seal_values
from tunnelkit.config.environment import MAIN
from tunnelkit.config.keys import KeyRow, Keys, KeySettings
from tunnelkit.config.masked import Masked
from tunnelkit.config.names import check_key, check_name, check_size
from tunnelkit.config.schema import MIGRATIONS
from tunnelkit.config.store import (
    AuditEntry,
    Entry,
    EnvironmentEntry,
    Kind,
    Prompt,
    Ref,
    Rotation,
    Variables,
    Version,
    Write,
)
from tunnelkit.errors import AlreadyExistsError, InvalidError, MasterKeyError, NotFoundError

__all__ = ["FILE_NAME", "SqliteStore"]

FILE_NAME = "store.db"
KEYS_NAME = "keys"

VERSIONS_KEPT = 100
"""Versions of one object; beyond them the oldest go. More than anybody goes back."""

USE_NOTED = 60.0
"""Seconds in which one process notes one use of an object: reading must not become writing."""

SUGGESTIONS: Final = 1000
"""Names that are compared with one that does not exist."""


class SqliteStore:
    """The :class:`~tunnelkit.config.store.Store` in ``directory``; opened when it is first used.

    Any number of processes and threads may use it at once, and a fork goes on with a connection of its own.
    """

    def __init__(
        self, directory: Path, settings: KeySettings | None = None, prompt: Prompt | None = None
    ) -> None:
        self._database = Database(directory / FILE_NAME, MIGRATIONS)
        self._keys = Keys(directory / KEYS_NAME, settings or KeySettings(), prompt)
        self._noted: dict[Ref, float] = {}

    def close(self) -> None:
        self._database.close()

    # --- values --------------------------------------------------------------------------------

    def write(
        self, ref: Ref, variables: Variables, *, mode: Write = Write.CREATE, remove: Iterable[str] = ()
    ) -> int:
        remove = {check_key(key) for key in remove}
        for key in variables:
            check_key(key)
        rotation.get_key(self._database, self._keys)
        with self._database.writing() as connection:
            found = self._find(connection, ref)
            if found is not None and mode is Write.CREATE:
                hint = "Take another name, --force to replace it, or update it"
                raise AlreadyExistsError(f"There is a {ref} already", hint=hint)
            if found is None and mode is Write.UPDATE:
                raise self._missing(connection, ref)
            kept: dict[str, Masked] = {}
            if found is not None and mode is Write.UPDATE:
                kept = self._open(_fetch(connection, ref, found, found.version))
                if absent := remove - kept.keys():
                    what = f"{_sentence(ref)} has no variable {', '.join(sorted(absent))}"
                    raise NotFoundError(what, hint=f"`tunnelkit {ref.kind} info` lists those it has")
            variables = {key: value for key, value in kept.items() if key not in remove} | dict(variables)
            check_size(variables)
            return self._add(connection, ref, found, variables, mode if found is not None else Write.CREATE)

    def read(self, ref: Ref, *, version: int | None = None, is_use: bool = True) -> dict[str, Masked]:
        found, sealed = self._sealed(ref, version)
        try:
            variables = self._open(sealed)
        except MasterKeyError:
            # A rotation may have ended since, and the key that this version needed then may be gone.
            found, again = self._sealed(ref, version)
            if again.master == sealed.master:
                raise
            variables = self._open(again)
        if is_use:
            self._note_use(ref, found, tuple(variables), sealed.place.version)
        return variables

    def rollback(self, ref: Ref, version: int) -> int:
        rotation.get_key(self._database, self._keys)
        with self._database.writing() as connection:
            found = self._found(connection, ref)
            variables = self._open(_fetch(connection, ref, found, version))
            return self._add(connection, ref, found, variables, "rollback")

    def _sealed(self, ref: Ref, version: int | None) -> tuple[_Found, _Sealed]:
        with self._database.reading() as connection:
            found = self._found(connection, ref)
            return found, _fetch(connection, ref, found, found.version if version is None else version)

    def _open(self, sealed: _Sealed) -> dict[str, Masked]:
        key = self._keys.find(sealed.master, sealed.masters)
        return open_values(key, sealed.place, sealed.wrapped, sealed.values)

    def _add(
        self,
        connection: sqlite3.Connection,
        ref: Ref,
        found: _Found | None,
        variables: Variables,
        action: str,
    ) -> int:
        """Write the next version; the current one becomes history."""
        if found is None:
            found = self._create(connection, ref)
        number, keys = found.version + 1, tuple(sorted(variables))
        master = rotation.key_for_writing(connection, self._keys)
        wrapped, sealed = seal_values(master, Place(ref, number, keys), variables)
        connection.execute(
            "INSERT INTO versions (object, number, keys, created_at, created_by, master, wrapped)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (found.id, number, " ".join(keys), now(), actor(), master.id, wrapped),
        )
        connection.executemany(
            "INSERT INTO variables (object, number, key, sealed) VALUES (?, ?, ?, ?)",
            [(found.id, number, key, value) for key, value in sealed.items()],
        )
        connection.execute("UPDATE objects SET version = ? WHERE id = ?", (number, found.id))
        connection.execute(
            "DELETE FROM versions WHERE object = ? AND number <= ?", (found.id, number - VERSIONS_KEPT)
        )
        record(connection, action, ref, keys=keys, version=number)
        return number

    def _create(self, connection: sqlite3.Connection, ref: Ref) -> _Found:
        place = connection.execute(
            "INSERT INTO objects (environment, kind, name, version, created_at, created_by)"
            " VALUES (?, ?, ?, 0, ?, ?)",
            (self._environment(connection, ref.environment), ref.kind, ref.name, now(), actor()),
        ).lastrowid
        return _Found(place or 0, 0)

    def _note_use(self, ref: Ref, found: _Found, keys: tuple[str, ...], version: int) -> None:
        clock = time.monotonic()
        if clock - self._noted.get(ref, -math.inf) < USE_NOTED:
            return
        self._noted[ref] = clock

        def write(connection: sqlite3.Connection) -> None:
            used = now(), f"{actor()}, process {process()}", found.id
            connection.execute("UPDATE objects SET used_at = ?, used_by = ? WHERE id = ?", used)
            record(connection, "use", ref, keys=keys, version=version)

        self._database.note(write)

    # --- what is there -------------------------------------------------------------------------

    def entry(self, ref: Ref) -> Entry:
        with self._database.reading() as connection:
            found = self._found(connection, ref)
            row = connection.execute(f"{_ENTRIES} WHERE objects.id = ?", (found.id,)).fetchone()
        return _entry(ref, row)

    def entries(self, kind: Kind, environment: str) -> list[Entry]:
        with self._database.reading() as connection:
            place = self._environment(connection, environment)
            rows = connection.execute(
                f"{_ENTRIES} WHERE objects.environment = ? AND kind = ? ORDER BY name",
                (place, kind),
            ).fetchall()
        return [_entry(Ref(kind, row[0], environment), row) for row in rows]

    def history(self, ref: Ref) -> list[Version]:
        with self._database.reading() as connection:
            found = self._found(connection, ref)
            rows = connection.execute(
                "SELECT number, keys, created_at, created_by FROM versions"
                " WHERE object = ? ORDER BY number DESC",
                (found.id,),
            ).fetchall()
        return [
            Version(number, tuple(keys.split()), moment(at), by, number == found.version)
            for number, keys, at, by in (typed(row, (int, str, int, str)) for row in rows)
        ]

    def delete(self, ref: Ref, *, allow_missing: bool = False) -> bool:
        with self._database.writing() as connection:
            found = self._find(connection, ref)
            if found is None:
                if allow_missing:
                    return False
                raise self._missing(connection, ref)
            connection.execute("DELETE FROM objects WHERE id = ?", (found.id,))
            record(connection, "delete", ref)
        self._noted.pop(ref, None)
        self._database.forget_deleted()
        return True

    def _found(self, connection: sqlite3.Connection, ref: Ref) -> _Found:
        if (found := self._find(connection, ref)) is None:
            raise self._missing(connection, ref)
        return found

    def _find(self, connection: sqlite3.Connection, ref: Ref) -> _Found | None:
        check_name(ref.name, what=ref.kind)
        row = connection.execute(
            "SELECT id, version FROM objects WHERE environment = ? AND kind = ? AND name = ?",
            (self._environment(connection, ref.environment), ref.kind, ref.name),
        ).fetchone()
        return None if row is None else _Found(*typed(row, (int, int)))

    def _missing(self, connection: sqlite3.Connection, ref: Ref) -> NotFoundError:
        names = connection.execute(
            "SELECT name FROM objects WHERE environment = ? AND kind = ? LIMIT ?",
            (self._environment(connection, ref.environment), ref.kind, SUGGESTIONS),
        )
        where = "" if ref.environment == MAIN else f" --env {ref.environment}"
        otherwise = f"Create it with `tunnelkit {ref.kind} create {ref.name}{where} …`, or name another --env"
        return _not_found(f"There is no {ref}", ref.name, names, otherwise)

    # --- environments --------------------------------------------------------------------------

    def environments(self) -> list[EnvironmentEntry]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT environments.name, environments.created_at, environments.created_by,"
                " COUNT(*) FILTER (WHERE kind = 'secret'), COUNT(*) FILTER (WHERE kind = 'proxy')"
                " FROM environments LEFT JOIN objects ON objects.environment = environments.id"
                " GROUP BY environments.id ORDER BY environments.name"
            ).fetchall()
        typed_rows = (typed(row, (str, int, str, int, int)) for row in rows)
        return [EnvironmentEntry(name, moment(at), *rest) for name, at, *rest in typed_rows]

    def create_environment(self, name: str) -> None:
        check_name(name, what="environment")
        with self._database.writing() as connection:
            if connection.execute("SELECT 1 FROM environments WHERE name = ?", (name,)).fetchone():
                raise AlreadyExistsError(
                    f"There is an environment {name!r} already", hint="Take another name"
                )
            connection.execute(
                "INSERT INTO environments (name, created_at, created_by) VALUES (?, ?, ?)",
                (name, now(), actor()),
            )
            record(connection, "create", ("environment", name, name))

    def delete_environment(self, name: str, *, allow_missing: bool = False) -> bool:
        check_name(name, what="environment")
        if name == MAIN:
            raise InvalidError(f"The environment {MAIN!r} is always there", hint="Delete what is in it")
        with self._database.writing() as connection:
            if (
                allow_missing
                and not connection.execute("SELECT 1 FROM environments WHERE name = ?", (name,)).fetchone()
            ):
                return False
            place = self._environment(connection, name)
            connection.execute("DELETE FROM environments WHERE id = ?", (place,))
            record(connection, "delete", ("environment", name, name))
        self._noted.clear()
        self._database.forget_deleted()
        return True

    def _environment(self, connection: sqlite3.Connection, name: str) -> int:
        check_name(name, what="environment")
        row = connection.execute("SELECT id FROM environments WHERE name = ?", (name,)).fetchone()
        if row is None:
            names = connection.execute("SELECT name FROM environments LIMIT ?", (SUGGESTIONS,))
            otherwise = f"Create it with: tunnelkit environment create {name}"
            raise _not_found(f"There is no environment {name!r}", name, names, otherwise)
        (place,) = typed(row, (int,))
        return int(place)

    # --- the log and the key -------------------------------------------------------------------

    def audit(self, *, limit: int = 1000) -> list[AuditEntry]:
        with self._database.reading() as connection:
            return audit.newest(connection, limit)

    def rotate_key(self, to: str | None = None) -> Rotation:
        return rotation.rotate(self._database, self._keys, to)


class _Found(NamedTuple):
    id: int
    version: int


class _Sealed(NamedTuple):
    """A version as it is stored, with the key that it needs and all that the store has."""

    place: Place
    master: KeyRow
    masters: list[KeyRow]
    wrapped: bytes
    values: dict[str, bytes]


def _fetch(connection: sqlite3.Connection, ref: Ref, found: _Found, version: int) -> _Sealed:
    row = connection.execute(
        "SELECT keys, master, wrapped FROM versions WHERE object = ? AND number = ?", (found.id, version)
    ).fetchone()
    if row is None:
        hint = "`tunnelkit secret history` lists those that are kept"
        raise NotFoundError(f"{_sentence(ref)} has no version {version}", hint=hint)
    keys, master, wrapped = typed(row, (str, str, bytes))
    sealed = connection.execute(
        "SELECT key, sealed FROM variables WHERE object = ? AND number = ? ORDER BY key", (found.id, version)
    )
    values = {row[0]: row[1] for row in (typed(it, (str, bytes)) for it in sealed)}
    masters = rotation.rows(connection)
    place = Place(ref, version, tuple(keys.split()))
    return _Sealed(place, rotation.row_of(masters, master), masters, wrapped, values)


_ENTRIES: Final = (
    "SELECT objects.name, versions.keys, objects.version, objects.created_at, objects.created_by,"
    " versions.created_at, versions.created_by, used_at, used_by FROM objects"
    " JOIN versions ON versions.object = objects.id AND versions.number = objects.version"
)


def _entry(ref: Ref, row: Sequence[Any] | None) -> Entry:
    kinds = (str, str, int, int, str, int, str, int | None, str | None)
    _, keys, version, created_at, created_by, updated_at, updated_by, used_at, used_by = typed(row, kinds)
    return Entry(
        ref,
        tuple(keys.split()),
        version,
        moment(created_at),
        created_by,
        moment(updated_at),
        updated_by,
        None if used_at is None else moment(used_at),
        used_by,
    )


def _sentence(ref: Ref) -> str:
    text = str(ref)
    return text[0].upper() + text[1:]


def _not_found(what: str, name: str, rows: Iterable[tuple[str]], otherwise: str) -> NotFoundError:
    close = difflib.get_close_matches(name, [str(row[0]) for row in rows], 1)
    return NotFoundError(what, hint=f"Is it {close[0]!r}?" if close else otherwise)
