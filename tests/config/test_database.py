from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunnelkit.config import database as module
from tunnelkit.config.database import Database
from tunnelkit.config.schema import MIGRATIONS
from tunnelkit.errors import StoreBusyError, StoreDamagedError, StoreError

STEPS = (
    ("CREATE TABLE t (a)", "INSERT INTO t VALUES (1)"),
    ("ALTER TABLE t ADD b", "UPDATE t SET b = a + 1"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "x.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path, STEPS)
    yield database
    database.close()


def rows(database: Database) -> list[tuple[object, ...]]:
    with database.reading() as connection:
        return connection.execute("SELECT * FROM t").fetchall()


def pragma(database: Database, name: str) -> object:
    with database.reading() as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_it_is_durable_and_forgets(database: Database) -> None:
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2  # FULL
    assert pragma(database, "secure_delete") == 1
    assert pragma(database, "foreign_keys") == 1
    database.note(lambda connection: connection.execute("INSERT INTO t VALUES (5, 6)").close())
    assert pragma(database, "synchronous") == 2
    assert pragma(database, "busy_timeout") == module.LOCK_TIMEOUT * 1000
    assert rows(database) == [(1, 2), (5, 6)]


def test_migrations_go_on_where_they_were(path: Path, database: Database) -> None:
    first = Database(path, STEPS[:1])
    assert rows(first) == [(1,)]
    first.close()
    assert rows(database) == [(1, 2)]
    assert pragma(database, "user_version") == 2
    with pytest.raises(StoreError, match=r"A newer tunnelkit .*schema 2, not 1.*Upgrade"):
        rows(first)
    assert rows(database) == [(1, 2)]


def test_a_migration_is_done_whole_or_not_at_all(path: Path, database: Database) -> None:
    broken = Database(path, (*STEPS, ("INSERT INTO t VALUES (7, 8)", "DROP TABLE missing")))
    with pytest.raises(StoreError, match="no such table"):
        rows(broken)
    assert rows(database) == [(1, 2)]


def test_the_first_step_is_never_changed() -> None:
    """A store of the first release has to be led on from exactly what it is; add a step instead."""
    import hashlib

    digest = hashlib.sha256("\n".join(MIGRATIONS[0]).encode()).hexdigest()
    assert digest == "8481be0b459c6d46295a7f230dc299847e63b9a04c0334e2eda5581399c9b5e9"


def test_an_error_leaves_nothing_half_written(database: Database) -> None:

    def write(then: Callable[[sqlite3.Connection], object]) -> None:
        with database.writing() as connection:
            connection.execute("DELETE FROM t")
            then(connection)

    for error, then in (
        (ZeroDivisionError, lambda _: 1 / 0),
        (StoreError, lambda connection: connection.execute("no SQL")),
    ):
        with pytest.raises(error):
            write(then)
        assert rows(database) == [(1, 2)]


def test_a_lock_that_is_kept(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.05)
    rows(database)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(StoreBusyError, match=r"locked by another process.*\[store_busy\]"),
        database.writing(),
    ):
        pass
    other.close()
    with database.writing():
        pass


@pytest.mark.parametrize("mode", [0o710, 0o702, 0o755])
def test_a_directory_that_others_can_use_is_refused(database: Database, path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    with pytest.raises(StoreError, match=rf"its mode is 0{mode:o}\).*chmod 700"):
        rows(database)
    assert not path.exists()
    path.parent.chmod(0o700)
    rows(database)


def test_a_file_that_others_can_use_is_refused(database: Database, path: Path) -> None:
    rows(database)
    database.close()
    path.chmod(0o640)
    with pytest.raises(StoreError, match=r"its mode is 0640.*chmod 600"):
        rows(database)


def test_what_stands_in_its_place(database: Database, path: Path, tmp_path: Path) -> None:
    path.parent.write_text("")
    with pytest.raises(StoreError, match="is not a directory"):
        rows(database)
    path.parent.unlink()
    path.mkdir(parents=True)
    path.parent.chmod(0o700)
    with pytest.raises(StoreError, match="is not a regular file"):
        rows(database)
    path.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(0o600)
    path.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="is not a regular file"):
        rows(database)


def test_a_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    database = Database(tmp_path / "link" / "x.db", STEPS)
    rows(database)
    database.close()
    assert (tmp_path / "real" / "x.db").exists()


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made.*TUNNELKIT_HOME"):
        rows(Database(tmp_path / "file" / "home" / "x.db", STEPS))


def test_no_database(database: Database, path: Path) -> None:
    path.parent.mkdir(0o700)
    path.write_bytes(os.urandom(4096))
    path.chmod(0o600)
    with pytest.raises(StoreDamagedError):
        rows(database)


def test_a_fork_has_a_connection_of_its_own(database: Database) -> None:
    """Even where a thread of the parent holds the lock at that moment."""
    with database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (3, 4)")
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if rows(database) == [(1, 2)] else 2
                database.close()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert rows(database) == [(1, 2), (3, 4)]


def test_close_and_go_on(database: Database) -> None:
    rows(database)
    database.close()
    database.close()
    assert rows(database) == [(1, 2)]
