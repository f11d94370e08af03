"""Users, their passwords, where clients come from, and how much they may have."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.egress import password as password_module
from tunnelkit.egress import users as module
from tunnelkit.egress.password import PasswordHash
from tunnelkit.egress.users import (
    ClientAddresses,
    Quota,
    User,
    UserLimits,
    Users,
    hash_password,
    parse_users,
)
from tunnelkit.errors import AuthMissingError, InvalidError, UserLimitError

HASH = "$scrypt$ln=5,r=8,p=1$bm90IHNvIHNhbHR5IQ$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWI"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """New hashes take a millisecond here."""
    monkeypatch.setattr(password_module, "LOG_N", 5)
    monkeypatch.setattr(password_module, "PARALLEL", 1)


class Counting(Users):
    """Users that count the hashes they compute."""

    def __init__(self, users: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(users)
        self.hashed = 0
        scrypt = hashlib.scrypt

        def count(*args: object, **named: object) -> bytes:
            self.hashed += 1
            return scrypt(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(hashlib, "scrypt", count)


@pytest.fixture
async def users(monkeypatch: pytest.MonkeyPatch):
    made = Counting(
        [User("alice", hash_password("rabbit")), User("bob", hash_password("sponge"))], monkeypatch
    )
    yield made
    made.close()


# --- hashes -------------------------------------------------------------------------------------


def test_a_hash_is_standard_scrypt() -> None:
    digest = bytes.fromhex("fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162")  # RFC 7914 §12
    known = PasswordHash(10, 8, 16, b"NaCl", digest)
    assert known.matches("password")
    assert not known.matches("Password")
    assert PasswordHash.parse(HASH).digest == digest
    assert str(PasswordHash.parse(HASH)) == HASH


def test_a_hash_has_a_salt_of_its_own_and_fits_one_password() -> None:
    one, other = hash_password("rabbit"), hash_password("rabbit")
    assert one != other
    assert one.startswith("$scrypt$ln=5,r=8,p=1$")
    for text in (one, other):
        assert PasswordHash.parse(text).matches("rabbit")
        assert not PasswordHash.parse(text).matches("rabbit ")


def test_a_hash_does_not_show() -> None:
    parsed = PasswordHash.parse(hash_password("rabbit"))
    assert "salt" not in repr(parsed)
    assert "digest" not in repr(parsed)
    assert "scrypt" not in repr(User("alice", str(parsed)))


@pytest.mark.parametrize("password", ["", "x" * 1025, "rabbit\0"])
def test_a_password_that_is_none_is_refused(password: str) -> None:
    with pytest.raises(InvalidError):
        hash_password(password)


SALT, DIGEST = "A" * 22, "B" * 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$2b$12$abcdefghijklmnopqrstuv",
        f"$scrypt$ln=14,r=8,p=1${SALT}",
        f"$scrypt$ln=14,r=8,p=1${SALT}${DIGEST}\n",
        f"$scrypt$ln=14,r=8,p=1${SALT}$short",
        f"$scrypt$ln=14,r=8,p=1${'A' * 25}${DIGEST}",
        f"$scrypt$ln=0,r=8,p=1${SALT}${DIGEST}",
        f"$scrypt$ln=14,r=0,p=1${SALT}${DIGEST}",
        f"$scrypt$ln=14,r=8,p=0${SALT}${DIGEST}",
        f"$scrypt$ln=19,r=8,p=1${SALT}${DIGEST}",
        f"$scrypt$ln=99,r=999,p=1${SALT}${DIGEST}",
        f"$scrypt$ln=14,r=8,p=17${SALT}${DIGEST}",
    ],
)
def test_what_is_no_hash_or_takes_too_long_is_refused_unseen(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        PasswordHash.parse(text)
    assert not text or text not in str(caught.value)


@given(st.text())
def test_any_text_is_a_hash_or_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        PasswordHash.parse(text)


# --- files --------------------------------------------------------------------------------------


def test_a_file_of_users() -> None:
    one, two = hash_password("a"), hash_password("b")
    text = f"# people\n\nalice:{one}\r\n  bob : {two}  \n"
    assert parse_users(text) == [User("alice", one), User("bob", two)]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("alice", "There is no colon"),
        ("alice:secret", "It is no hash"),
        ("alice:", "It is no hash"),
        (f":{HASH}", "no user name"),
        (f"{'x' * 256}:{HASH}", "no user name"),
        (f"a\u200bb:{HASH}", "no user name"),
    ],
)
def test_a_bad_line_is_named_and_no_secret_shown(line: str, named: str) -> None:
    with pytest.raises(AuthMissingError, match=f"line 2: .*{named}") as caught:
        parse_users(f"#\n{line}\n")
    assert "secret" not in str(caught.value)


# --- checking -----------------------------------------------------------------------------------


async def test_the_right_password_is_right(users: Counting) -> None:
    assert await users.check("alice", "rabbit")
    assert await users.check("bob", "sponge")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "sponge"),
        ("alice", ""),
        ("alice", "rabbit\0"),
        ("Alice", "rabbit"),
        ("", "rabbit"),
        ("nobody", "rabbit"),
        ("alicer", "abbit"),
        ("alice", "\udcff"),
        ("\udcff", "rabbit"),
    ],
)
async def test_anything_else_is_wrong(users: Counting, name: str, password: str) -> None:
    assert await users.check("alice", "rabbit")
    assert not await users.check(name, password)
    assert users.check_now(name, password) is False


async def test_what_was_right_is_known_without_a_hash(users: Counting) -> None:
    assert users.check_now("alice", "rabbit") is None
    assert await users.check("alice", "rabbit")
    assert users.check_now("alice", "rabbit") is True
    assert users.check_now("alice", "sponge") is None
    assert users.check_now("bob", "rabbit") is None
    assert await users.check("alice", "rabbit")
    assert users.hashed == 1


async def test_what_was_wrong_is_known_within_a_limit(users: Counting, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_WRONG", 2)
    for password in ("1", "2", "3", "3"):
        assert not await users.check("alice", password)
    assert users.hashed == 3
    assert users.check_now("alice", "1") is None
    assert users.check_now("alice", "3") is False


async def test_a_name_that_is_none_costs_a_hash_too(users: Counting) -> None:
    await users.check("nobody", "rabbit")
    assert users.hashed == 1
    known = users._hashes["alice"]
    unknown = users._nobody
    assert (known.log_n, known.block, known.parallel) == (unknown.log_n, unknown.block, unknown.parallel)
    assert len(known.digest) == len(unknown.digest)


async def test_an_endless_password_is_refused_unhashed(users: Counting) -> None:
    assert not await users.check("alice", "x" * 2000)
    assert users.hashed == 0


async def test_the_loop_goes_on_meanwhile(users: Counting, monkeypatch) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_: object, __: str) -> bool:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
        return True

    monkeypatch.setattr(PasswordHash, "matches", slow)
    checking = asyncio.create_task(users.check("alice", "rabbit"))
    await asyncio.sleep(0.01)
    assert not checking.done()
    release.set()
    assert await checking


async def test_one_who_tries_passwords_leaves_room_for_others(users: Counting, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CHECKS_OF_CLIENT", 2)
    monkeypatch.setattr(module, "MAX_CHECKS", 3)
    checks = [asyncio.create_task(users.check("alice", str(n), client="mallory")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(UserLimitError):
        await users.check("alice", "3", client="mallory")
    checks.append(asyncio.create_task(users.check("alice", "rabbit", client="alice")))
    await asyncio.sleep(0)
    with pytest.raises(UserLimitError):
        await users.check("alice", "4", client="bob")
    assert await asyncio.gather(*checks) == [False, False, True]
    assert not users._waiting


def test_users_have_to_be_some_and_different() -> None:
    with pytest.raises(AuthMissingError, match="no user"):
        Users([])
    with pytest.raises(AuthMissingError, match="twice"):
        Users([User("alice", hash_password("a")), User("alice", hash_password("b"))])
    with pytest.raises(AuthMissingError, match="no hash"):
        Users([User("alice", "secret")])


async def test_nothing_of_a_password_is_kept_or_shown(users: Counting) -> None:
    await users.check("alice", "rabbit")
    kept = repr(vars(users))
    assert "rabbit" not in kept
    assert "alice" not in repr(users)


# --- where clients come from --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_client_addresses(address: str, inside: bool) -> None:
    assert (address in ClientAddresses(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])) is inside


def test_client_networks_have_to_be_some_and_real() -> None:
    with pytest.raises(AuthMissingError):
        ClientAddresses([])
    for text in ("", "localhost", "10.0.0.1/8", "10.0.0.0/33"):
        with pytest.raises(InvalidError, match="Not the network"):
            ClientAddresses([text])


# --- limits -------------------------------------------------------------------------------------


def test_connections_at_once_are_counted() -> None:
    quota = Quota(UserLimits(connections=2))
    quota.take("alice", 0)
    quota.take("alice", 0)
    with pytest.raises(UserLimitError, match="2 connections at once"):
        quota.take("alice", 0)
    quota.take("bob", 0)
    quota.give_back("alice")
    quota.take("alice", 0)
    for user in ("alice", "alice", "bob"):
        quota.give_back(user)
    assert not quota._accounts


def test_new_connections_have_a_rate() -> None:
    quota = Quota(UserLimits(per_second=2))
    for _ in range(4):  # two seconds' worth
        quota.take("alice", 100.0)
    with pytest.raises(UserLimitError, match="2 new connections a second"):
        quota.take("alice", 100.4)
    quota.take("alice", 100.5)
    quota.take("bob", 100.5)
    with pytest.raises(UserLimitError):
        quota.take("alice", 100.6)


def test_a_slow_rate_allows_one() -> None:
    quota = Quota(UserLimits(per_second=0.1))
    quota.take("alice", 0)
    with pytest.raises(UserLimitError):
        quota.take("alice", 9.9)
    quota.take("alice", 10.1)


def test_without_limits_there_are_none() -> None:
    quota = Quota(UserLimits())
    for _ in range(1000):
        quota.take("alice", 0)


def test_giving_back_does_not_give_the_rate_back() -> None:
    quota = Quota(UserLimits(per_second=0.5))
    quota.take("alice", 0)
    quota.give_back("alice")
    with pytest.raises(UserLimitError):
        quota.take("alice", 0.1)


def test_who_comes_once_is_forgotten() -> None:
    quota = Quota(UserLimits(per_second=1))
    quota.take("stays", 0)
    for n in range(10_000):
        quota.take(f"client{n}", n)
        quota.give_back(f"client{n}")
    assert len(quota._accounts) < 10
    assert quota._accounts["stays"].connections == 1
