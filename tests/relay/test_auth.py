"""Who may use a relay, and what never shows in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import AuthMissingError
from tunnelkit.relay import Relay
from tunnelkit.relay.auth import MAX_TOKEN, AnyToken, Identity, TokenList, bearer


async def test_each_token_is_an_identity_of_its_own() -> None:
    tokens = TokenList(["one", "two"])
    one, two = await tokens.authorize("one"), await tokens.authorize("two")
    assert isinstance(one, Identity)
    assert one != two
    assert one == await TokenList(["two", "one"]).authorize("one")


@pytest.mark.parametrize(
    "token", ["", "on", "ones", "ONE", " one", "one\n", "öne", "\udcff", "one\0", "x" * 2**20]
)
async def test_any_other_token_is_nobody(token: str) -> None:
    assert await TokenList(["one", "two"]).authorize(token) is None


@given(token=st.text())
async def test_no_text_but_the_token_is_accepted(token: str) -> None:
    accepted = await TokenList(["one"]).authorize(token)
    assert (accepted is not None) == (token == "one")


@pytest.mark.parametrize(
    "tokens",
    [[], [""], ["good", ""], [" "], ["with space"], ["line\n"], ["tökén"], ["x" * (MAX_TOKEN + 1)]],
    ids=["none", "empty", "one is empty", "blank", "space", "line", "not ASCII", "long"],
)
def test_tokens_that_cannot_be_meant_stop_the_relay(tokens: list[str]) -> None:
    with pytest.raises(AuthMissingError):
        TokenList(tokens)


def test_a_token_may_be_as_long_as_the_limit() -> None:
    TokenList(["x" * MAX_TOKEN])


async def test_an_open_relay_tells_tokens_apart() -> None:
    anyone = AnyToken()
    assert await anyone.authorize("") == await anyone.authorize("") != await anyone.authorize("x")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, ""),
        (b"", ""),
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"Basic abc", ""),
        (b"Bearerabc", ""),
        (b"abc", ""),
        (b"Bearer \xff", "\xff"),
    ],
)
def test_the_token_in_a_header(header: bytes | None, token: str) -> None:
    assert bearer(header) == token


PUBLIC = ["0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "relay.example.com:0"]


@pytest.mark.parametrize("listen", PUBLIC)
def test_a_public_relay_without_a_token_refuses_to_start(listen: str) -> None:
    with pytest.raises(AuthMissingError, match="would let everybody in") as refusal:
        Relay(listen=listen)
    assert "--open" in refusal.value.hint


def test_one_public_address_is_enough_to_refuse() -> None:
    with pytest.raises(AuthMissingError):
        Relay(listen=["127.0.0.1:0", "0.0.0.0:0"])


@pytest.mark.parametrize("listen", PUBLIC)
def test_it_starts_where_that_is_meant_or_a_token_is_set(listen: str) -> None:
    Relay(listen=listen, anyone=True)
    Relay(listen=listen, tokens=["secret"])


def test_an_empty_token_is_not_the_same_as_none() -> None:
    with pytest.raises(AuthMissingError):
        Relay(listen="127.0.0.1:0", tokens=[""])


async def test_a_relay_that_is_open_to_all_starts_on_every_address() -> None:
    async with Relay(listen="0.0.0.0:0", anyone=True) as relay:
        assert relay.addresses[0][0] == "0.0.0.0"
        assert relay.url.startswith("ws://127.0.0.1:")


def test_no_text_of_a_token_list_shows_a_token() -> None:
    assert "hush" not in repr(TokenList(["hush"])) + repr(vars(TokenList(["hush"])))
