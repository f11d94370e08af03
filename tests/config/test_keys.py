from __future__ import annotations

import base64
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from tunnelkit.config import keys as module
from tunnelkit.config import rotation
from tunnelkit.config.keys import KeySettings, MasterKey, parse_key
from tunnelkit.config.names import check_values
from tunnelkit.config.sqlite import SqliteStore
from tunnelkit.config.store import Kind, Prompt, Ref
from tunnelkit.errors import InvalidError, MasterKeyError, StoreError

A = Ref(Kind.SECRET, "a", "main")
NEW = Ref(Kind.SECRET, "new", "main")

ONE = base64.b64encode(bytes(range(32))).decode()
TWO = bytes(range(1, 33)).hex()
PHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passphrase's key costs 64 MiB and a tenth of a second otherwise; one test pays that."""
    monkeypatch.setattr(module, "_ARGON2", "$argon2id$v=19$m=64,t=1,p=1$")


class Opened:
    """Opens the store in one directory with one environment after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stores: list[SqliteStore] = []

    def __call__(self, prompt: Prompt | None = None, **variables: str) -> SqliteStore:
        environ = {f"TUNNELKIT_{name}": value for name, value in variables.items()}
        store = SqliteStore(self.directory, KeySettings.read(environ), prompt)
        self._stores.append(store)
        return store

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path / "home")
    yield opened
    opened.close()


def works(store: SqliteStore) -> bool:
    """Whether the store can be read; and where not, that it cannot be written either."""
    try:
        assert store.read(A)["K"].reveal() == "v"
    except MasterKeyError:
        with pytest.raises(MasterKeyError):
            store.write(NEW, {})
        return False
    return True


def fill(store: SqliteStore) -> None:
    store.write(A, check_values({"K": "v"}))


# --- what a key is ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ONE, ONE.rstrip("="), f"  {ONE}\n", TWO, TWO.upper(), "-_" * 21 + "8"])
def test_keys(text: str) -> None:
    key = parse_key(text, "environment", what="X")
    assert parse_key(key.text(), "file", what="X").id == key.id
    assert key.text() not in repr(key)


@pytest.mark.parametrize("text", ["", " ", "hunter2", ONE[:-5], ONE + "AAAA", TWO[:-1], "g" * 64, "é" * 43])
def test_what_is_no_key_is_not_shown(text: str) -> None:
    with pytest.raises(MasterKeyError, match=r"^X is (empty|not 32 bytes).*openssl rand") as raised:
        parse_key(text, "environment", what="X")
    assert not text.strip() or text.strip() not in str(raised.value)


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy])
def test_a_key_is_not_written_anywhere(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError, match="not pickled"):
        write(MasterKey(bytes(32), "environment"))


# --- where it comes from ------------------------------------------------------------------------


def test_a_key_is_generated_with_the_first_value(opened: Opened) -> None:
    store = opened()
    assert store.entries(Kind.SECRET, "main") == []
    assert not (opened.directory / "keys").exists()
    fill(store)
    assert len(list((opened.directory / "keys").iterdir())) == 1
    assert works(opened())


def test_the_order(opened: Opened, tmp_path: Path) -> None:
    """Each of them, beside all that come after it."""
    for name, text in (("key", TWO), ("phrase", PHRASE)):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    given = {
        "MASTER_KEY": ONE,
        "MASTER_KEY_FILE": str(tmp_path / "key"),
        "PASSPHRASE": PHRASE,
        "PASSPHRASE_FILE": str(tmp_path / "phrase"),
    }
    for number, (first, source) in enumerate(
        zip(list(given), ("environment", "file", *["passphrase"] * 2), strict=True)
    ):
        opened.directory = tmp_path / f"home{number}"
        fill(opened(None, **given))
        assert works(opened(None, **{first: given[first]}))
        assert not works(opened())
        assert not (opened.directory / "keys").exists()
        with opened(None, **given)._database.reading() as connection:
            assert connection.execute("SELECT source FROM masters").fetchall() == [(source,)]
        del given[first]


def test_another_key_than_the_stores(opened: Opened) -> None:
    fill(opened(MASTER_KEY=ONE))
    assert works(opened(MASTER_KEY=ONE))
    with pytest.raises(
        MasterKeyError, match=r"MASTER_KEY \(\w{16}\) is set, but the store's key is \w{16}"
    ) as raised:
        opened(MASTER_KEY=TWO).read(A)
    assert TWO not in str(raised.value)
    assert not works(opened(MASTER_KEY=TWO))
    with pytest.raises(MasterKeyError, match="is not there"):
        opened().read(A)


@pytest.mark.parametrize("variables", [{"MASTER_KEY": ONE}, {"PASSPHRASE": PHRASE}, {"KEYRING": "1"}])
def test_a_key_that_is_named_is_never_passed_over(opened: Opened, variables: dict[str, str]) -> None:
    """Not even where the generated one would do: whoever names a key believes that it is used."""
    fill(opened())
    assert not works(opened(None, **variables))
    assert works(opened(KEYRING="no"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("name", ["MASTER_KEY_FILE", "PASSPHRASE_FILE"])
def test_a_file_that_others_can_use_is_refused(opened: Opened, tmp_path: Path, name: str, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(ONE)
    path.chmod(mode)
    with pytest.raises(MasterKeyError, match=f"Others can use .*{mode:o}.*chmod 600"):
        fill(opened(None, **{name: str(path)}))
    path.chmod(0o600)
    fill(opened(None, **{name: str(path)}))


def test_a_generated_key_that_others_can_read_is_refused(opened: Opened) -> None:
    fill(opened())
    (path,) = (opened.directory / "keys").iterdir()
    path.chmod(0o644)
    assert not works(opened())


def test_key_files_that_are_none(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "empty").touch(0o600)
    for path, said in (
        ("missing", "No such file"),
        (".", "Is a directory"),
        ("/dev/null", "not a regular file"),
        ("empty", "is empty"),
    ):
        with pytest.raises(MasterKeyError, match=said):
            fill(opened(MASTER_KEY_FILE=str(tmp_path / path)))


@pytest.mark.parametrize("name", ["MASTERKEY", "MASTER_KEY_FIL", "PASSPHRAS", "PASSPHRASE_FLIE", "KEY_RING"])
def test_a_misspelt_variable_is_refused(name: str) -> None:
    with pytest.raises(MasterKeyError, match=r"none of tunnelkit's\. Is it TUNNELKIT_"):
        KeySettings.read({f"TUNNELKIT_{name}": ONE})


def test_variables_that_are_none_of_ours() -> None:
    environ = {
        "TUNNELKIT_PORT": "tcp://10.0.0.1",
        "TUNNELKIT_KEY": "key.pem",
        "TUNNELKIT_TOKEN_FILE": "x",
        "TUNNELKIT_TOKEN": "t",
        "MASTER_KEY": "x",
        "PATH": "/",
    }
    assert KeySettings.read(environ) == KeySettings()


@pytest.mark.parametrize("name", ["MASTER_KEY", "MASTER_KEY_FILE", "PASSPHRASE", "PASSPHRASE_FILE"])
def test_an_empty_variable_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(MasterKeyError, match=f"TUNNELKIT_{name} is empty"):
        fill(opened(None, **{name: " "}))
    with pytest.raises(InvalidError, match="TUNNELKIT_KEYRING"):
        KeySettings.read({"TUNNELKIT_KEYRING": "perhaps"})


def test_settings_do_not_show() -> None:
    assert ONE not in repr(KeySettings.read({"TUNNELKIT_MASTER_KEY": ONE}))


# --- passphrases --------------------------------------------------------------------------------


def test_a_passphrase(opened: Opened) -> None:
    fill(opened(PASSPHRASE=PHRASE))
    assert works(opened(PASSPHRASE=PHRASE))
    with pytest.raises(MasterKeyError, match="not the store's") as raised:
        opened(PASSPHRASE="hunter2hunter2").read(A)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(MasterKeyError, match="locked with a passphrase"):
        opened().read(A)
    opened.directory = opened.directory.with_name("other")
    with pytest.raises(MasterKeyError, match="too short"):
        fill(opened(PASSPHRASE="short"))


def test_a_passphrase_is_asked_for_once(opened: Opened) -> None:
    fill(opened(PASSPHRASE="café au lait"))
    asked: list[tuple[str, bool]] = []

    def prompt(question: str, new: bool) -> str:
        asked.append((question, new))
        return "cafe\u0301 au lait"  # as another keyboard writes it

    store = opened(prompt)
    assert works(store)
    assert works(store)
    assert asked == [("Passphrase of the store", False)]


def test_the_real_derivation(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    fill(opened(PASSPHRASE=PHRASE))
    assert works(opened(PASSPHRASE=PHRASE))
    with opened()._database.reading() as connection:
        ((derivation,),) = connection.execute("SELECT derivation FROM masters")
    assert derivation.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    with opened()._database.writing() as connection:
        connection.execute("UPDATE masters SET derivation = '$argon2id$v=19$m=99999999,t=9,p=4$AAAA'")
    with pytest.raises(MasterKeyError, match="does not know"):
        opened(PASSPHRASE=PHRASE).read(A)


# --- the keyring of the operating system --------------------------------------------------------


class Remembering(keyring.backend.KeyringBackend):
    """A keyring that is a dictionary, and can be locked."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("It is locked")
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.held[service, username]


@pytest.fixture
def backend() -> Iterator[Remembering]:
    before = keyring.get_keyring()
    backend = Remembering()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_the_keyring(opened: Opened, backend: Remembering) -> None:
    fill(opened(KEYRING="1"))
    assert not (opened.directory / "keys").exists()
    assert works(opened())  # the store remembers where its key is
    ((service, _),) = backend.held
    assert service == "tunnelkit"
    backend.locked = True
    with pytest.raises(MasterKeyError, match=r"cannot be used: It is locked\. Is one running"):
        opened().read(A)
    backend.locked = False
    backend.held.clear()
    with pytest.raises(MasterKeyError, match="does not have the store's key"):
        opened().read(A)


def test_it_is_asked_only_where_that_was_wanted(opened: Opened, backend: Remembering) -> None:
    backend.locked = True
    fill(opened())
    assert works(opened())
    assert not backend.held


def test_without_the_package(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(MasterKeyError, match=r"pip install 'tunnelkit\[keyring\]'"):
        fill(opened(KEYRING="1"))


def test_a_first_key_that_was_not_remembered_is_not_left_behind(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("The disk is full")

    monkeypatch.setattr(rotation, "_remember", full)
    with pytest.raises(StoreError, match="full"):
        fill(opened())
    assert list((opened.directory / "keys").iterdir()) == []
    monkeypatch.undo()
    fill(opened())
    assert works(opened())


def test_no_key_can_be_written(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_private", full)
    with pytest.raises(StoreError, match=r"No key can be written .*No space left"):
        fill(opened())
    monkeypatch.undo()
    assert opened().entries(Kind.SECRET, "main") == []
    fill(opened())
