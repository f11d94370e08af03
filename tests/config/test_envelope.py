"""Rows that were changed behind the store's back: an error each, and never another value."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from tunnelkit.config.keys import KeySettings
from tunnelkit.config.names import check_values
from tunnelkit.config.sqlite import SqliteStore
from tunnelkit.config.store import Kind, Ref, Write
from tunnelkit.errors import MasterKeyError, NotFoundError, StoreDamagedError, StoreError

A = Ref(Kind.SECRET, "a", "main")
B = Ref(Kind.SECRET, "b", "main")
PROXY = Ref(Kind.PROXY, "a", "main")
DEV = Ref(Kind.SECRET, "a", "dev")


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    store.create_environment("dev")
    for ref in (A, B, PROXY, DEV):
        store.write(ref, check_values({"X": f"x of {ref}", "Y": f"y of {ref}"}))
    store.write(A, check_values({"X": "second x", "Y": "second y"}), mode=Write.REPLACE)
    return store


def tamper(store: SqliteStore, *statements: str, **values: object) -> None:
    with store._database.writing() as connection:
        for statement in statements:
            connection.execute(statement, values)


def swap(store: SqliteStore, table: str, column: str, first: int, second: int) -> None:
    with store._database.writing() as connection:
        rows = connection.execute(f"SELECT {column} FROM {table} WHERE rowid IN (?, ?)", (first, second))
        (one,), (other,) = rows.fetchall()
        for value, row in ((other, min(first, second)), (one, max(first, second))):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))


def test_a_value_of_another_variable(filled: SqliteStore) -> None:
    rows = "SELECT rowid FROM variables WHERE object = 1 AND number = 2 ORDER BY rowid"
    with filled._database.reading() as connection:
        (a,), (b,) = connection.execute(rows)
    swap(filled, "variables", "sealed", a, b)
    with pytest.raises(StoreDamagedError, match="Version 2 of secret 'a'"):
        filled.read(A)
    swap(filled, "variables", "sealed", a, b)
    assert filled.read(A)["X"].reveal() == "second x"


@pytest.mark.parametrize(
    ("first", "second"),
    [((A, 1), (A, 2)), ((A, 1), (B, 1)), ((A, 1), (PROXY, 1)), ((A, 1), (DEV, 1))],
    ids=["version", "name", "kind", "environment"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["values", "with their data keys"])
def test_rows_of_another(
    filled: SqliteStore, first: tuple[Ref, int], second: tuple[Ref, int], *, whole: bool
) -> None:
    places = {A: 1, B: 2, PROXY: 3, DEV: 4}
    with filled._database.reading() as connection:

        def rows(table: str, ref: Ref, version: int) -> list[int]:
            found = connection.execute(
                f"SELECT rowid FROM {table} WHERE object = ? AND number = ? ORDER BY rowid",
                (places[ref], version),
            )
            return [row for (row,) in found]

        variables = list(zip(rows("variables", *first), rows("variables", *second), strict=True))
        versions = list(zip(rows("versions", *first), rows("versions", *second), strict=True))
    for a, b in variables:
        swap(filled, "variables", "sealed", a, b)
    for a, b in versions if whole else ():
        swap(filled, "versions", "wrapped", a, b)
    for ref, version in (first, second):
        with pytest.raises(StoreDamagedError):
            filled.read(ref, version=version)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM variables WHERE object = 2 AND key = 'X'",
        "INSERT INTO variables SELECT object, number, 'Z', sealed FROM variables WHERE object = 2 LIMIT 1",
        "UPDATE variables SET key = 'Z' WHERE object = 2 AND key = 'X'",
        "UPDATE versions SET keys = 'X' WHERE object = 2",
        "UPDATE variables SET sealed = x'' WHERE object = 2 AND key = 'X'",
        "UPDATE variables SET sealed = substr(sealed, 1, 20) WHERE object = 2 AND key = 'X'",
        "UPDATE variables SET sealed = sealed || x'00' WHERE object = 2 AND key = 'X'",
        "UPDATE versions SET wrapped = x'' WHERE object = 2",
        "UPDATE versions SET wrapped = substr(wrapped, 1, 27) WHERE object = 2",
        "UPDATE objects SET kind = id; UPDATE objects SET kind = 'secret', name = 'b' WHERE id = 1",
    ],
)
def test_rows_that_were_taken_or_added(filled: SqliteStore, statement: str) -> None:
    tamper(filled, *statement.split(";"))
    with pytest.raises(StoreDamagedError):
        filled.read(B)


@pytest.mark.parametrize("column", ["variables.sealed", "versions.wrapped"])
def test_one_flipped_bit(filled: SqliteStore, column: str) -> None:
    table, name = column.split(".")
    with filled._database.reading() as connection:
        whole: bytes = connection.execute(f"SELECT {name} FROM {table} WHERE object = 2").fetchone()[0]
    write = f"UPDATE {table} SET {name} = :value WHERE object = 2 AND {name} = :before"
    before = whole
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        tamper(filled, write, value=bytes(changed), before=before)
        before = bytes(changed)
        with pytest.raises(StoreDamagedError):
            filled.read(B)
    tamper(filled, write, value=whole, before=before)
    assert filled.read(B)["X"].reveal() == f"x of {B}"


def test_a_flipped_bit_anywhere_in_the_file(filled: SqliteStore, tmp_path: Path) -> None:
    """Whatever it is that is damaged: what is read is what was written, or an error of ours."""
    filled.close()
    path = tmp_path / "home" / "store.db"
    whole = path.read_bytes()
    choose = random.Random(7)
    errors = 0
    for _ in range(300):
        place = choose.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        try:
            variables = filled.read(A)
            # Which version is the current one is not authenticated; that it is one of this secret's is.
            assert variables["X"].reveal() in (f"x of {A}", "second x")
        except (StoreError, NotFoundError):
            errors += 1
        filled.close()
        for left in path.parent.glob("store.db-*"):
            left.unlink()
    assert errors


def test_a_damaged_key_file(filled: SqliteStore, tmp_path: Path) -> None:
    (path,) = (tmp_path / "home" / "keys").iterdir()
    text = path.read_text()
    changes = (
        (("A" if text[0] != "A" else "B") + text[1:], "not the store's"),
        (text[4:], "32 bytes"),
        ("", "empty"),
    )
    for change, said in changes:
        path.write_text(change)
        other = SqliteStore(tmp_path / "home", KeySettings())
        with pytest.raises(MasterKeyError, match=said) as raised:
            other.read(A)
        assert text.strip()[8:] not in str(raised.value)
        with pytest.raises(MasterKeyError):
            other.write(Ref(Kind.SECRET, "new", "main"), {})
        other.close()
    path.unlink()
    other = SqliteStore(tmp_path / "home", KeySettings())
    with pytest.raises(MasterKeyError, match="cannot be read"):
        other.read(A)
    assert len(other.entries(Kind.SECRET, "main")) == 2  # which needs no key
    other.close()


def test_a_file_that_is_no_store(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(0o700)
    path = tmp_path / "home" / "store.db"
    path.write_bytes(b"not a database at all " * 100)
    path.chmod(0o600)
    with pytest.raises(StoreDamagedError, match="no store of tunnelkit's"):
        store.read(A)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE environments (id)")
    other.close()
    path.chmod(0o600)
    with pytest.raises(StoreError):
        store.read(A)
