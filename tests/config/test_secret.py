from __future__ import annotations

import asyncio
import copy
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tunnelkit
from tunnelkit import Secret, SecretInfo
from tunnelkit.config.audit import actor
from tunnelkit.errors import AlreadyExistsError, InvalidError, InvalidNameError, NotFoundError

pytestmark = pytest.mark.usefixtures("home")

CANARY = "canary-5b1f"


def test_from_dict() -> None:
    secret = Secret.from_dict({"A": CANARY, "B": None, "C": ""}, name="mine")
    assert secret.reveal() == {"A": CANARY, "C": ""}
    assert secret.name == "mine"
    info = secret.info()
    assert isinstance(info, SecretInfo)
    assert (info.name, info.created_by, info.keys) == ("mine", actor(), ("A", "C"))
    assert datetime.now(UTC) - info.created_at < timedelta(minutes=1)
    assert Secret.from_dict({}).reveal() == {}


def test_it_keeps_what_it_was_given() -> None:
    given = {"A": "1"}
    secret = Secret.from_dict(given)
    given["A"] = "2"
    secret.reveal()["A"] = "3"
    assert secret.reveal() == {"A": "1"}


@pytest.mark.parametrize("wrong", [{"A": 1}, {1: "a"}, {"A-B": "x"}, [("A", "x")], "A=x", None])
def test_what_no_secret_is_made_of(wrong: object) -> None:
    with pytest.raises(InvalidError):
        Secret.from_dict(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidNameError):
        Secret.from_dict({}, name="a b")
    with pytest.raises(InvalidError, match=r"Secret\.from_name"):
        Secret()


def test_nothing_shows_a_value() -> None:
    secret = Secret.from_dict({"KEY_A": CANARY, "KEY_B": CANARY})
    assert repr(secret) == str(secret) == "Secret.from_dict(<KEY_A, KEY_B>)"
    assert CANARY not in f"{secret} {secret!r} {[secret]} {secret.info()}"
    assert CANARY not in repr([getattr(secret, name) for name in Secret.__slots__])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidError, match=r"not pickled.*Secret.from_name"):
        pickle.dumps({"deep": [Secret.from_dict({"A": CANARY})]}, protocol)
    secret = Secret.from_name("a", environment_name="main", required_keys=["A"])
    Secret.objects.create("a", {"A": CANARY})
    pickled = pickle.dumps(secret, protocol)
    assert CANARY.encode() not in pickled
    again = pickle.loads(pickled)
    assert again.reveal() == {"A": CANARY}
    assert repr(again) == repr(secret)
    held = Secret.from_dict({"A": CANARY})
    assert copy.copy(held).reveal() == copy.deepcopy([held])[0].reveal() == {"A": CANARY}


def test_from_name_looks_up_when_it_is_used(home: Path) -> None:
    secret = Secret.from_name("db")
    assert not home.exists()
    with pytest.raises(NotFoundError, match="no secret 'db'"):
        secret.reveal()
    Secret.objects.create("db", {"A": "1"})
    assert secret.reveal() == {"A": "1"}
    secret.update({"A": "2", "B": "3", "C": None})
    assert secret.reveal() == {"A": "2", "B": "3"}
    secret.update({}, remove=["A"])
    assert secret.reveal() == {"B": "3"}
    with pytest.raises(InvalidNameError):
        Secret.from_name("a b")


def test_required_keys() -> None:
    Secret.objects.create("db", {"A": "1"})
    assert Secret.from_name("db", required_keys=["A"]).reveal() == {"A": "1"}
    secret = Secret.from_name("db", required_keys=["A", "B", "C"])
    with pytest.raises(NotFoundError, match=r"'db' has no B, C"):
        secret.reveal()
    with pytest.raises(InvalidError, match="list"):
        Secret.from_name("db", required_keys="A")


def test_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunnelkit.config.home import shared_store

    shared_store().create_environment("prod")
    Secret.objects.create("db", {"A": "main"})
    Secret.objects.create("db", {"A": "prod"}, environment_name="prod")
    secret, pinned = Secret.from_name("db"), Secret.from_name("db", environment_name="main")
    assert secret.reveal() == {"A": "main"}
    monkeypatch.setenv("TUNNELKIT_ENVIRONMENT", "prod")
    assert secret.reveal() == {"A": "prod"}
    assert pinned.reveal() == {"A": "main"}
    monkeypatch.setenv("TUNNELKIT_ENVIRONMENT", "prd")
    with pytest.raises(NotFoundError, match=r"no environment 'prd'\. Is it 'prod'\?"):
        secret.reveal()
    with pytest.raises(NotFoundError):
        Secret.objects.create("x", {})


def test_objects() -> None:
    for name in "bac":
        Secret.objects.create(name, {"A": "1"})
    with pytest.raises(AlreadyExistsError):
        Secret.objects.create("a", {"A": "2"})
    Secret.objects.create("a", {"A": "2"}, allow_existing=True)
    assert Secret.from_name("a").reveal() == {"A": "1"}
    listed = Secret.objects.list()
    assert [secret.name for secret in listed] == ["c", "a", "b"]
    assert [secret.name for secret in Secret.objects.list(max_objects=1)] == ["c"]
    middle = listed[1].info().created_at
    assert [secret.name for secret in Secret.objects.list(created_before=middle)] == ["b"]
    assert len(Secret.objects.list(created_before="2099-01-01")) == 3
    assert Secret.objects.list(created_before="2000-01-01T00:00:00+02:00") == []
    Secret.objects.delete("a")
    Secret.objects.delete("a", allow_missing=True)
    with pytest.raises(NotFoundError):
        Secret.objects.delete("a")
    with pytest.raises(InvalidError):
        Secret.objects.list(created_before="yesterday")
    with pytest.raises(InvalidError):
        Secret.objects.list(max_objects=-1)


def test_info() -> None:
    Secret.objects.create("a", {"Z": CANARY, "B": CANARY})
    info = Secret.from_name("a").info()
    assert (info.name, info.keys, info.version, info.created_by) == ("a", ("B", "Z"), 1, actor())
    assert info.created_at.utcoffset() == timedelta(0)
    assert info.last_used_at is None
    assert CANARY not in repr(info)
    Secret.from_name("a").reveal()
    assert Secret.from_name("a").info().last_used_at is not None


def test_only_a_stored_one_is_updated() -> None:
    with pytest.raises(InvalidError, match="stored nowhere"):
        Secret.from_dict({"A": "1"}, name="a").update({"A": "2"})
    with pytest.raises(NotFoundError):
        Secret.from_name("a").update({"A": "2"})


def test_from_local_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", CANARY)
    monkeypatch.setenv("TWO", "")
    monkeypatch.delenv("THREE", raising=False)
    secret = Secret.from_local_environ(["ONE", "TWO"])
    monkeypatch.setenv("ONE", "changed")
    assert secret.reveal() == {"ONE": CANARY, "TWO": ""}
    with pytest.raises(NotFoundError, match="no THREE"):
        Secret.from_local_environ(["ONE", "THREE"])
    with pytest.raises(InvalidError):
        Secret.from_local_environ("ONE")


def test_from_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".env").write_text("A=1\nB=${A}2\nC\n")
    (tmp_path / "other.env").write_text("A=other")
    monkeypatch.chdir(below)
    for path in (None, ".", below, str(tmp_path), tmp_path / ".env", below / "program.py"):
        assert Secret.from_dotenv(path).reveal() == {"A": "1", "B": "12"}, path
    assert Secret.from_dotenv(interpolate=False).reveal()["B"] == "${A}2"
    assert Secret.from_dotenv(tmp_path / "other.env").reveal() == {"A": "other"}
    assert Secret.from_dotenv(filename="other.env").reveal() == {"A": "other"}
    for missing in ("missing.env", tmp_path / "missing"):
        with pytest.raises(NotFoundError, match="no file"):
            Secret.from_dotenv(missing)
    with pytest.raises(NotFoundError, match=r"no file \.env-none"):
        Secret.from_dotenv(filename=".env-none")


async def test_aio() -> None:
    await Secret.objects.create.aio("a", {"A": "1"})
    secret = Secret.from_name("a")
    await secret.update.aio({"B": "2"})
    assert await secret.reveal.aio() == {"A": "1", "B": "2"}
    assert (await secret.info.aio()).version == 2
    assert [it.name for it in await Secret.objects.list.aio()] == ["a"]
    many = await asyncio.gather(*(secret.reveal.aio() for _ in range(20)))
    assert len(many) == 20
    await Secret.objects.delete.aio("a")
    with pytest.raises(NotFoundError):
        await secret.reveal.aio()
    from tunnelkit.config.home import shared_store

    shared_store().close()


def test_documentation_is_found() -> None:
    assert "as a new version" in (Secret.update.__doc__ or "")


def test_exported() -> None:
    for name in ("Secret", "SecretInfo", "Proxy", "ProxyInfo", "SchedulerPlacement"):
        assert name in tunnelkit.__all__
        assert getattr(tunnelkit, name).__name__ == name
