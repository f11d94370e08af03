from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.config.test_keys import ONE, PHRASE, TWO, Opened, Remembering, backend, cheap_argon2, opened
from tunnelkit.config import rotation
from tunnelkit.config.database import Database
from tunnelkit.config.names import check_values
from tunnelkit.config.sqlite import SqliteStore
from tunnelkit.config.store import Kind, Ref, Write
from tunnelkit.errors import InvalidError, MasterKeyError, StoreDamagedError

__all__ = ["backend", "cheap_argon2", "opened"]  # fixtures

THREE = base64.b64encode(b"3" * 32).decode()

REFS = [Ref(Kind.SECRET, f"s{i}", "main") for i in range(7)] + [Ref(Kind.PROXY, "p", "main")]


def fill(store: SqliteStore) -> None:
    for ref in REFS:
        for version in "12":
            store.write(ref, check_values({"K": f"{ref} {version}"}), mode=Write.REPLACE)


def check(store: SqliteStore) -> None:
    for ref in REFS:
        for version in (1, 2):
            assert store.read(ref, version=version)["K"].reveal() == f"{ref} {version}"


def rows(store: SqliteStore, query: str) -> list[tuple[object, ...]]:
    with store._database.reading() as connection:
        return connection.execute(query).fetchall()


def key_files(opened: Opened) -> set[str]:
    return {path.stem for path in (opened.directory / "keys").glob("*.key")}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)


def test_data_keys_are_wrapped_again_and_values_left_alone(opened: Opened) -> None:
    store = opened()
    fill(store)
    sealed = rows(store, "SELECT sealed FROM variables")
    wrapped = {row[0] for row in rows(store, "SELECT wrapped FROM versions")}
    before = key_files(opened)
    done = store.rotate_key()
    assert (done.rewrapped, done.source) == (16, "generated")
    assert {done.old_key} == before
    assert {done.new_key} == key_files(opened)
    assert rows(store, "SELECT sealed FROM variables") == sealed
    assert not wrapped & {row[0] for row in rows(store, "SELECT wrapped FROM versions")}
    check(store)
    check(opened())
    fill(opened())


def test_to_another_kind_and_back(opened: Opened, backend: Remembering) -> None:
    fill(opened())
    assert opened(PASSPHRASE=PHRASE).rotate_key().source == "passphrase"
    assert key_files(opened) == set()
    check(opened(PASSPHRASE=PHRASE))
    assert opened(OLD_PASSPHRASE=PHRASE, PASSPHRASE="another " + PHRASE).rotate_key().source == "passphrase"
    assert opened(OLD_PASSPHRASE="another " + PHRASE).rotate_key("keyring").source == "keyring"
    assert len(backend.held) == 1
    check(opened())
    assert opened(MASTER_KEY=ONE).rotate_key().source == "environment"
    assert not backend.held
    assert opened(OLD_MASTER_KEY=ONE, MASTER_KEY=TWO).rotate_key().source == "environment"
    check(opened(MASTER_KEY=TWO))
    assert opened(OLD_MASTER_KEY=TWO).rotate_key("generated").source == "generated"
    check(opened())


def test_a_new_passphrase_is_asked_for(opened: Opened) -> None:
    fill(opened())
    answers = {("Passphrase of the store", False): PHRASE, ("New passphrase of the store", True): PHRASE}

    def prompt(question: str, new: bool) -> str:
        return answers[question, new]

    assert opened(prompt).rotate_key("passphrase").source == "passphrase"
    check(opened(prompt))
    answers["New passphrase of the store", True] = "another " + PHRASE
    opened(prompt).rotate_key()
    with pytest.raises(MasterKeyError, match="not the store's"):
        check(opened(prompt))
    check(opened(PASSPHRASE="another " + PHRASE))


def test_what_cannot_be(opened: Opened) -> None:
    with pytest.raises(InvalidError, match="no key yet"):
        opened().rotate_key()
    fill(opened(MASTER_KEY=ONE))
    for store, to, said in (
        (opened(MASTER_KEY=ONE), None, "the store's key already"),
        (opened(OLD_MASTER_KEY=ONE), None, "There is no new key"),
        (opened(MASTER_KEY=ONE), "generated", "call it TUNNELKIT_OLD_MASTER_KEY"),
        (opened(OLD_MASTER_KEY=ONE), "passphrase", "no passphrase"),
        (opened(OLD_MASTER_KEY=ONE), "paper", "no key of kind 'paper'"),
        (opened(OLD_MASTER_KEY=THREE), "generated", "is not there"),
        (opened(MASTER_KEY=TWO), None, "is not there"),
    ):
        with pytest.raises((InvalidError, MasterKeyError), match=said):
            store.rotate_key(to)
    assert rows(opened(), "SELECT COUNT(*) FROM masters") == [(1,)]
    assert key_files(opened) == set()
    check(opened(MASTER_KEY=ONE))


class Killed(BaseException):
    """As if the process had ended there."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the process end after so many transactions of a rotation."""

    def set_(transactions: int) -> None:
        left = iter(range(transactions))
        begin, some, end = rotation._begin, rotation._some, rotation._end

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object) -> object:
                if next(left, None) is None:
                    raise Killed
                return function(*args)

            return call

        for name, function in (("_begin", begin), ("_some", some), ("_end", end)):
            monkeypatch.setattr(rotation, name, counted(function))

    return set_


@pytest.mark.parametrize("transactions", range(10))
def test_killed_anywhere(
    opened: Opened,
    killed_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    transactions: int,
) -> None:
    store = opened()
    fill(store)
    old = key_files(opened)
    killed_after(transactions)
    try:
        store.rotate_key()
    except Killed:
        assert transactions < 9
    else:
        assert transactions == 9
    monkeypatch.undo()
    store = opened()
    check(store)
    store.write(Ref(Kind.SECRET, "new", "main"), check_values({"K": "new"}))
    check(opened())
    done = opened().rotate_key()
    check(opened())
    assert rows(store, "SELECT DISTINCT master FROM versions") == [(done.new_key,)]
    assert rows(store, "SELECT id, next FROM masters") == [(done.new_key, 0)]
    assert key_files(opened) == {done.new_key}
    assert not old & key_files(opened)


def test_an_interrupted_one_goes_on_where_it_was_going(
    opened: Opened, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(opened(MASTER_KEY=ONE))
    killed_after(3)
    with pytest.raises(Killed):
        opened(OLD_MASTER_KEY=ONE, MASTER_KEY=TWO).rotate_key()
    monkeypatch.undo()
    check(opened(OLD_MASTER_KEY=ONE, MASTER_KEY=TWO))
    with pytest.raises(MasterKeyError, match="is not there"):  # half of them need it
        check(opened(MASTER_KEY=TWO))
    with pytest.raises(MasterKeyError):
        opened(OLD_MASTER_KEY=ONE, MASTER_KEY=THREE).rotate_key()
    assert opened(OLD_MASTER_KEY=ONE, MASTER_KEY=TWO).rotate_key().rewrapped == 10
    check(opened(MASTER_KEY=TWO))


def test_then_to_what_is_wanted_now(
    opened: Opened, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(opened())
    killed_after(3)
    with pytest.raises(Killed):
        opened().rotate_key()
    monkeypatch.undo()
    assert opened(PASSPHRASE=PHRASE).rotate_key("passphrase").source == "passphrase"
    check(opened(PASSPHRASE=PHRASE))
    assert key_files(opened) == set()


def test_a_new_key_that_was_lost_before_it_was_used(
    opened: Opened, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(opened())
    (old,) = key_files(opened)
    killed_after(1)
    with pytest.raises(Killed):
        opened().rotate_key()
    monkeypatch.undo()
    (new,) = key_files(opened) - {old}
    Path(opened.directory / "keys" / f"{new}.key").unlink()
    assert opened().rotate_key().rewrapped == 16
    check(opened())


def test_a_damaged_data_key_stops_it_and_is_named(opened: Opened) -> None:
    store = opened()
    fill(store)
    with store._database.writing() as connection:
        connection.execute("UPDATE versions SET wrapped = x'00' WHERE object = 4 AND number = 1")
    with pytest.raises(StoreDamagedError, match="Version 1 of secret 's3'"):
        opened().rotate_key()
    store.delete(REFS[3])
    opened().rotate_key()
    assert store.read(REFS[4])["K"].reveal() == f"{REFS[4]} 2"


def test_two_at_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes while the first is in the middle: both end, and with the same key."""
    fill(opened())
    some = rotation._some
    others: list[str] = []

    def interrupted(database: Database, *args: object) -> int:
        count = some(database, *args)  # type: ignore[arg-type]
        if not others:
            others.append("")
            others[0] = opened().rotate_key().new_key
        return count

    monkeypatch.setattr(rotation, "_some", interrupted)
    assert opened().rotate_key().new_key == others[0]
    check(opened())
    assert key_files(opened) == set(others)


def test_a_reader_whose_key_goes_while_it_reads(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(opened())
    reader = opened()
    sealed = SqliteStore._sealed
    rotated: list[str] = []

    def then_rotate(store: SqliteStore, *args: object) -> object:
        found = sealed(store, *args)  # type: ignore[arg-type]
        if not rotated:
            rotated.append(opened().rotate_key().new_key)
        return found

    monkeypatch.setattr(SqliteStore, "_sealed", then_rotate)
    check(reader)


def test_nobody_waits_while_a_person_is_asked(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the passphrase of a store that is to be written, nor for a new one."""
    fill(opened(PASSPHRASE=PHRASE))
    asked: list[str] = []

    def prompt(question: str, new: bool) -> str:
        asked.append(question)
        other = opened(PASSPHRASE=PHRASE)
        other.write(REFS[0], check_values({"K": question}), mode=Write.REPLACE)
        return PHRASE + "!" * new

    opened(prompt).write(REFS[1], check_values({"K": "mine"}), mode=Write.REPLACE)
    opened(prompt).rotate_key("passphrase")
    assert asked == ["Passphrase of the store", "Passphrase of the store", "New passphrase of the store"]
    store = opened(PASSPHRASE=PHRASE + "!")
    assert store.read(REFS[1])["K"].reveal() == "mine"
