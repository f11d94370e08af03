"""One SQLite file: its permissions, its connection, its transactions, its schema.

WAL lets readers go on beside one writer; ``synchronous=FULL`` makes a commit durable before it returns.
SQLite gives its ``-wal`` and ``-shm`` files the permissions of the database.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunnelkit.config.files import private_directory, private_file
from tunnelkit.errors import StoreBusyError, StoreDamagedError, StoreError

__all__ = ["LOCK_TIMEOUT", "Database", "typed"]

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 10.0
"""Seconds to wait for other processes: thousands of writes, each a few milliseconds long."""

JOURNAL_LIMIT = 4 << 20
"""Bytes that the write-ahead log keeps once it is empty."""

_PRAGMAS = (
    "synchronous=FULL",
    "fullfsync=ON",  # macOS: through the disk's own cache, too
    "foreign_keys=ON",
    "secure_delete=ON",  # zeros where a deleted row was
    "temp_store=MEMORY",  # and nothing in /tmp
    "trusted_schema=OFF",
    "cell_size_check=ON",
    f"journal_size_limit={JOURNAL_LIMIT}",
)


class Database:
    """A file that is opened when it is used, by one thread at a time, and by each process for itself."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]]) -> None:
        """``migrations``: the statements that lead from each version of the schema to the next."""
        self.path = path
        self._migrations = migrations
        self._open: _Connection | None = None
        self._inherited: list[_Connection] = []
        self._owner = os.getpid()
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the store, whatever others write meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block has ended, or has changed nothing if it raised."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def note(self, write: Callable[[sqlite3.Connection], None]) -> None:
        """A transaction for what may be lost: it waits for nobody and for no disk, and fails in silence."""
        try:
            with self._hold() as connection:
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA busy_timeout=0")
                try:
                    with self._transaction("BEGIN IMMEDIATE"):
                        write(connection)
                finally:
                    connection.execute("PRAGMA synchronous=FULL")
                    connection.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT * 1000:.0f}")
        except StoreError as error:
            log.debug("not noted: %s", error)

    def forget_deleted(self) -> None:
        """Have deleted rows leave the write-ahead log, as far as readers let it."""
        with contextlib.suppress(StoreError), self._hold() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._own_lock():
            if self._open is not None:
                self._open.close()
                self._open = None

    # --- the connection ------------------------------------------------------------------------

    def _own_lock(self) -> threading.RLock:
        # A fork has neither the threads that may hold the lock nor a right to the connection: SQLite's
        # locks belong to the process that took them.
        if self._owner != (pid := os.getpid()):
            self._owner, self._lock = pid, threading.RLock()
            if self._open is not None:
                self._inherited.append(self._open)
                self._open = None
        return self._lock

    @contextlib.contextmanager
    def _hold(self) -> Iterator[sqlite3.Connection]:
        with self._own_lock(), _translated(self.path):
            if self._open is not None and self._open.file != _identity(self.path):
                self.close()  # the file was moved away or restored from a backup
            if self._open is None:
                private_directory(self.path.parent)
                private_file(self.path)
                self._open = _Connection(self.path)
                try:
                    self._open.prepare(self._migrations)
                except BaseException:
                    self.close()
                    raise
                weakref.finalize(self, self._open.close)
            yield self._open.sqlite

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._hold() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:  # an error that SQLite has not rolled back itself
                    connection.execute("ROLLBACK")


def typed(row: Sequence[Any] | None, kinds: tuple[Any, ...]) -> Sequence[Any]:
    """``row``, if it is there and of these kinds: of a damaged file, SQLite reads what it finds."""
    if row is None or not all(map(isinstance, row, kinds)):
        raise StoreDamagedError("The store is damaged: a row of it holds what was never written there")
    return row


class _Connection:
    """A connection of this process, to the file that had this identity when it was opened."""

    def __init__(self, path: Path) -> None:
        self.sqlite = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never made by SQLite, which would ask the umask
            uri=True,
            timeout=LOCK_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        self.file = _identity(path)
        self._owner = os.getpid()

    def prepare(self, migrations: Sequence[Sequence[str]]) -> None:
        for pragma in _PRAGMAS:
            self.sqlite.execute(f"PRAGMA {pragma}")
        version = self._version()
        if version > len(migrations):
            raise StoreError(
                f"A newer tunnelkit has written this store (schema {version}, not {len(migrations)})",
                hint="Upgrade tunnelkit here, too",
            )
        if version < len(migrations):
            self._use_wal()
            self._migrate(migrations)

    def close(self) -> None:
        if self._owner == os.getpid():
            self.sqlite.close()

    def _version(self) -> int:
        return int(self.sqlite.execute("PRAGMA user_version").fetchone()[0])

    def _use_wal(self) -> None:
        """Switch to WAL, which is remembered in the file; here SQLite does not wait for locks by itself."""
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                self.sqlite.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _migrate(self, migrations: Sequence[Sequence[str]]) -> None:
        """All steps in one transaction: killed in the middle, the file is as it was."""
        self.sqlite.execute("BEGIN IMMEDIATE")
        try:
            for number in range(self._version(), len(migrations)):  # another process may have done some
                for statement in migrations[number]:
                    self.sqlite.execute(statement)
                self.sqlite.execute(f"PRAGMA user_version={number + 1}")
            self.sqlite.execute("COMMIT")
        finally:
            if self.sqlite.in_transaction:
                self.sqlite.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours. They hold neither values nor statements."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says more than a person needs
        raise _error(path, code, str(error)) from None
    except UnicodeDecodeError:  # SQLite quotes the damage that it finds in its errors
        raise StoreDamagedError(f"{path} is damaged, or no store of tunnelkit's") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}") from None


def _error(path: Path, code: int, text: str) -> StoreError:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusyError(f"{path} was locked by another process for {LOCK_TIMEOUT:.0f} seconds")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT):
        return StoreDamagedError(f"{path} is damaged, or no store of tunnelkit's ({text})")
    if text.startswith("Could not decode"):  # from the module itself; it goes on with what it found
        return StoreDamagedError(f"{path} is damaged: there is no text where text was written")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{path} cannot be written: the disk is full", hint="Make room, and try again")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(
            f"{path} cannot be written: it is read-only", hint="Check the directory and its disk"
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        hint = "Is the directory read-only, or its disk full?"
        return StoreError(f"{path} cannot be opened, read or written ({text})", hint=hint)
    return StoreError(f"{path}: {text}")
