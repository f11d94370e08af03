from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tunnelkit.config import audit, sqlite
from tunnelkit.config.keys import KeySettings
from tunnelkit.config.masked import Masked
from tunnelkit.config.names import MAX_SIZE, check_values
from tunnelkit.config.sqlite import SqliteStore
from tunnelkit.config.store import Kind, Ref, Store, Write
from tunnelkit.errors import AlreadyExistsError, InvalidError, InvalidNameError, NotFoundError

A = Ref(Kind.SECRET, "a", "main")

values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


def plain(variables: dict[str, Masked]) -> dict[str, str]:
    return {key: value.reveal() for key, value in variables.items()}


def test_it_is_a_store(store: SqliteStore) -> None:
    protocol: Store = store
    protocol.close()
    protocol.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, values, max_size=5))
@example({"A": ""})
@example({"A": "x" * (1 << 20)})
@example({"A": "one\ntwo\r\n\tthree\n"})
@example({"A": "é 漢字 🔑 \u202e \x7f"})
@example({"A": "\udcff"})  # a byte that is no UTF-8, as os.environ has it
@example({f"A{i}": "x" for i in range(1000)})
@example({})
def test_round_trip(store: SqliteStore, variables: dict[str, str]) -> None:
    store.write(A, check_values(variables), mode=Write.REPLACE)
    assert plain(store.read(A)) == variables
    assert store.entry(A).keys == tuple(sorted(variables))


def test_create_replace_update(store: SqliteStore) -> None:
    assert store.write(A, check_values({"X": "1", "Y": "2"})) == 1
    with pytest.raises(AlreadyExistsError):
        store.write(A, check_values({"X": "other"}))
    assert plain(store.read(A)) == {"X": "1", "Y": "2"}
    assert store.write(A, check_values({"Y": "3", "Z": "4"}), mode=Write.UPDATE, remove=["X"]) == 2
    assert plain(store.read(A)) == {"Y": "3", "Z": "4"}
    assert store.write(A, check_values({"Q": "5"}), mode=Write.REPLACE) == 3
    assert plain(store.read(A)) == {"Q": "5"}
    assert plain(store.read(A, version=1)) == {"X": "1", "Y": "2"}
    with pytest.raises(NotFoundError, match="no variable X"):
        store.write(A, {}, mode=Write.UPDATE, remove=["X", "Q"])
    assert store.entry(A).version == 3


def test_an_update_keeps_to_the_limits(store: SqliteStore) -> None:
    store.write(A, check_values({"X": "x" * (MAX_SIZE - 1)}))
    with pytest.raises(InvalidError, match="limit"):
        store.write(A, check_values({"Y": "yy"}), mode=Write.UPDATE)
    assert store.entry(A).version == 1


def test_names_that_are_not_there(store: SqliteStore) -> None:
    store.write(A._replace(name="database"), {})
    for use in (store.read, store.entry, store.history, store.delete):
        with pytest.raises(NotFoundError, match=r"'databse' in environment 'main'\. Is it 'database'\?"):
            use(A._replace(name="databse"))
    with pytest.raises(NotFoundError):
        store.write(A, {}, mode=Write.UPDATE)
    with pytest.raises(NotFoundError, match="no version 0"):
        store.read(A._replace(name="database"), version=0)
    with pytest.raises(NotFoundError, match="no version 7"):
        store.rollback(A._replace(name="database"), 7)
    with pytest.raises(NotFoundError, match=r"no environment 'mian'\. Is it 'main'\?"):
        store.entries(Kind.SECRET, "mian")
    with pytest.raises(NotFoundError, match="environment create prod"):
        store.write(A._replace(environment="prod"), {})
    with pytest.raises(InvalidNameError):
        store.write(A._replace(name="a b"), {})
    with pytest.raises(InvalidError):
        store.write(A, {"A B": Masked("")})


def test_history_and_rollback(store: SqliteStore) -> None:
    for number in "123":
        store.write(A, check_values({f"K{number}": number}), mode=Write.REPLACE)
    assert store.rollback(A, 1) == 4
    assert plain(store.read(A)) == {"K1": "1"}
    versions = store.history(A)
    assert [it.number for it in versions] == [4, 3, 2, 1]
    assert [it.current for it in versions] == [True, False, False, False]
    assert versions[1].keys == ("K3",)


def test_old_versions_go_with_their_values(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "VERSIONS_KEPT", 3)
    for number in range(5):
        store.write(A, check_values({"K": str(number)}), mode=Write.REPLACE)
    assert [it.number for it in store.history(A)] == [5, 4, 3]
    with store._database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM variables").fetchone() == (3,)


def test_delete_leaves_nothing_but_the_log(store: SqliteStore) -> None:
    store.write(A, check_values({"K": "1"}))
    assert store.delete(A)
    assert not store.delete(A, allow_missing=True)
    with store._database.reading() as connection:
        for table in ("objects", "versions", "variables"):
            assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
    assert store.write(A, check_values({"K": "2"})) == 1
    assert [it.action for it in store.audit()] == ["create", "delete", "create"]


def test_kinds_and_environments_have_names_of_their_own(store: SqliteStore) -> None:
    store.create_environment("dev")
    refs = [A, A._replace(kind=Kind.PROXY), A._replace(environment="dev")]
    for number, ref in enumerate(refs):
        store.write(ref, check_values({"K": str(number)}))
    assert [plain(store.read(ref)) for ref in refs] == [{"K": "0"}, {"K": "1"}, {"K": "2"}]
    assert [it.ref for it in store.entries(Kind.SECRET, "main")] == [A]
    found = [(it.name, it.secrets, it.proxies) for it in store.environments()]
    assert found == [("dev", 1, 0), ("main", 1, 1)]


def test_environments(store: SqliteStore) -> None:
    store.create_environment("dev")
    with pytest.raises(AlreadyExistsError):
        store.create_environment("dev")
    store.write(A._replace(environment="dev"), {})
    assert store.delete_environment("dev")
    assert not store.delete_environment("dev", allow_missing=True)
    with pytest.raises(NotFoundError):
        store.delete_environment("dev")
    with pytest.raises(InvalidError, match="always there"):
        store.delete_environment("main")
    with pytest.raises(InvalidNameError):
        store.create_environment("a/b")
    store.create_environment("dev")
    assert store.entries(Kind.SECRET, "dev") == []


def test_entries_tell_when_and_who_and_are_in_order(store: SqliteStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    for name in "cab":
        store.write(A._replace(name=name), check_values({"K": ""}))
    first, *_ = entries = store.entries(Kind.SECRET, "main")
    assert [it.ref.name for it in entries] == ["a", "b", "c"]
    assert before < first.created_at <= first.updated_at < datetime.now(UTC)
    assert first.created_at.tzinfo is UTC
    assert first.created_by == first.updated_by == audit.actor()
    assert first.last_used_at is first.last_used_by is None
    store.read(first.ref)
    used = store.entry(first.ref)
    assert used.last_used_at is not None
    assert first.created_at <= used.last_used_at <= datetime.now(UTC)
    assert str(os.getpid()) in (used.last_used_by or "")


def test_the_log_has_no_values(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(A, check_values({"K": "hunter2", "J": "hunter3"}))
    store.read(A)
    store.read(A)  # within a minute a process notes one use
    store.write(A, check_values({"K": "hunter4"}), mode=Write.UPDATE)
    store.rollback(A, 1)
    store.rotate_key()
    store.create_environment("dev")
    log = store.audit()
    assert [it.action for it in log] == ["create", "rotate-key", "rollback", "update", "use", "create"]
    assert [it.kind for it in log] == ["environment", "store", "secret", "secret", "secret", "secret"]
    created = log[-1]
    assert created.name == "a"
    assert created.environment == "main"
    assert created.keys == ("J", "K")
    assert created.version == 1
    assert created.actor == audit.actor()
    assert str(os.getpid()) in created.process
    assert "hunter" not in repr(log)
    assert len(store.audit(limit=2)) == 2
    monkeypatch.setattr(audit, "AUDIT_KEPT", 3)
    store.create_environment("test")
    assert len(store.audit()) == 3


def test_reading_does_not_wait_for_a_writer(store: SqliteStore) -> None:
    store.write(A, check_values({"K": "1"}))
    other = sqlite3.connect(store._database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert plain(store.read(A)) == {"K": "1"}
    assert time.monotonic() - began < 5  # neither for the note of the use, which has half as long again
    other.close()
    assert store.entry(A).last_used_at is None


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o022, 0o777):
        directory = tmp_path / f"home-{umask:o}"
        before = os.umask(umask)
        try:
            store = SqliteStore(directory, KeySettings())
            store.write(A, check_values({"K": "1"}))
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
            store.close()
        finally:
            os.umask(before)
        assert len(found) == 6
        for path, mode in found.items():
            assert mode == (0o700 if path.is_dir() else 0o600), path


def test_threads_share_a_store(store: SqliteStore) -> None:
    def work(name: str) -> None:
        for number in range(20):
            store.write(A._replace(name=name), check_values({"K": f"{name}{number}"}), mode=Write.REPLACE)
            assert plain(store.read(A._replace(name=name))) == {"K": f"{name}{number}"}
            done.append(1)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 80


def test_a_store_that_was_moved_away_is_noticed(store: SqliteStore, tmp_path: Path) -> None:
    store.write(A, check_values({"K": "old"}))
    store.close()
    store.write(A, check_values({"K": "new"}), mode=Write.REPLACE)
    with store._database.reading() as connection, sqlite3.connect(tmp_path / "copy.db") as copy:
        connection.backup(copy)
    copy.close()
    store.write(A, check_values({"K": "newer"}), mode=Write.REPLACE)
    home = tmp_path / "home"
    for path in home.glob("store.db-*"):
        path.unlink()
    (tmp_path / "copy.db").chmod(0o600)
    (tmp_path / "copy.db").replace(home / "store.db")
    assert plain(store.read(A)) == {"K": "new"}


@pytest.fixture
def ten_thousand(store: SqliteStore) -> SqliteStore:
    store.write(A, check_values({"K": "1"}))
    with store._database.writing() as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
            " INSERT INTO objects (environment, kind, name, version, created_at, created_by)"
            " SELECT 1, 'secret', 's' || i, 1, 0, 'x' FROM n"
        )
        connection.execute(
            "INSERT INTO versions SELECT id, 1, 'K', 0, 'x', (SELECT id FROM masters), x''"
            " FROM objects WHERE name <> 'a'"
        )
    return store


def test_ten_thousand_are_listed(ten_thousand: SqliteStore) -> None:
    assert len(ten_thousand.entries(Kind.SECRET, "main")) == 10_000
