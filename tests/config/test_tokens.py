"""Tokens and the rights behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit import compose
from tunnelkit.config import Masked, load_agent, load_exit, load_relay
from tunnelkit.config.tokens import RelayToken, relay_token
from tunnelkit.errors import AuthMissingError, InvalidError, InvalidNameError, TunnelkitError
from tunnelkit.relay.auth import Rights, TokenList


def rights_of(line: str) -> Rights:
    return compose._rights(relay_token(line))[1]


def test_a_token_alone_leaves_by_the_relay_and_its_own_exits() -> None:
    rights = rights_of("sesame")
    assert rights == Rights()
    assert rights.may_leave_here
    assert rights.may_leave_by("office", "", own=True)
    assert not rights.may_leave_by("office", "eu", own=False)
    assert rights.may_offer("anything")


def test_rights_stand_behind_a_token_in_any_number_of_spaces() -> None:
    rights = rights_of("sesame   by=@relay,office-*,zone:eu \t allow=*.example.com:443  deny=*   offer=a,b")
    assert rights.proxies == ("@relay", "office-*", "zone:eu")
    assert rights.destinations == ("allow *.example.com:443", "deny *")
    assert rights.offers == ("a", "b")
    assert rights.may_leave_by("office-1", "", own=False)
    assert rights.may_leave_by("berlin", "eu", own=False)
    assert not rights.may_leave_by("berlin", "us", own=True)
    assert not rights.may_offer("c")


def test_nothing_behind_by_is_no_way_out() -> None:
    rights = rights_of("sesame by= offer=")
    assert not rights.may_leave_here
    assert not rights.may_leave_by("office", "", own=True)
    assert not rights.may_offer("office")


@pytest.mark.parametrize("words", ["by", "allow", "allow=", "by=a by=b", "to=*", "other-token", "=x"])
def test_what_is_no_right_is_refused_and_not_shown(words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        relay_token(f"sesame {words}")
    assert "sesame" not in str(caught.value)
    assert "other-token" not in str(caught.value)


def test_a_rule_that_cannot_be_read_is_refused_when_the_relay_is_made() -> None:
    with pytest.raises(InvalidError, match="Not a rule"):
        compose.make_relay(load_relay({"token": ["sesame allow=[::"]}, environ={}))
    with pytest.raises(InvalidError, match="no address to leave from"):
        compose.make_relay(load_relay({"egress_rules": ["allow *"]}, environ={}))


@given(st.text())
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        token = relay_token(line)
    except TunnelkitError:
        return
    assert token
    assert repr(token) == "Masked(…)"


def test_the_file_of_a_relay_has_rights_and_that_of_an_agent_a_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# people\n\nalice\nbob by=\n", encoding="utf-8")
    tokens = load_relay({"token_file": str(file)}, environ={}, directory=tmp_path).token
    assert [token.reveal() for token in tokens] == ["alice", "bob"]
    assert isinstance(tokens[1], RelayToken)
    assert tokens[1].by == ()
    file.write_text("bob by=\n", encoding="utf-8")
    with pytest.raises(InvalidError, match="malformed"):
        load_agent({"token_file": str(file)}, environ={}, directory=tmp_path)


async def test_rights_come_with_the_identity_and_are_no_part_of_who_it_is() -> None:
    tokens = TokenList({"alice": Rights(proxies=()), "bob": Rights()})
    alice = await tokens.authorize("alice")
    same = await TokenList(["alice"]).authorize("alice")
    assert alice is not None
    assert alice.rights.proxies == ()
    assert alice == same
    assert hash(alice) == hash(same)
    assert alice != await tokens.authorize("bob")


def test_the_settings_of_an_exit_come_from_their_table_and_their_variables(tmp_path: Path) -> None:
    (tmp_path / "tunnelkit.toml").write_text(
        '[exit]\nname = "office"\nzone = "eu"\nsource_ip = ["192.0.2.1", "2001:db8::1"]\n'
        'rules = ["deny *:25"]\n',
        encoding="utf-8",
    )
    settings = load_exit(environ={"TUNNELKIT_EXIT_ZONE": "us"}, directory=tmp_path)
    assert (settings.name, settings.zone) == ("office", "us")
    assert settings.source_ip == ("192.0.2.1", "2001:db8::1")
    assert settings.rules == ("deny *:25",)
    with pytest.raises(InvalidNameError, match="TUNNELKIT_EXIT_NAME"):
        load_exit(environ={"TUNNELKIT_EXIT_NAME": "-"}, directory=tmp_path)


def test_what_a_relay_lends_has_no_variable(tmp_path: Path) -> None:
    environ = {"TUNNELKIT_EGRESS_SOURCE_IP": "192.0.2.1", "TUNNELKIT_DOMAIN": "tunnels.test"}
    settings = load_relay(environ=environ, directory=tmp_path)
    assert settings.domain == "tunnels.test"
    assert settings.egress_source_ip == ()
    (tmp_path / "tunnelkit.toml").write_text('[serve]\negress_source_ip = "192.0.2.1"\n', encoding="utf-8")
    assert load_relay(environ={}, directory=tmp_path).egress_source_ip == ("192.0.2.1",)


def test_an_empty_token_is_none() -> None:
    for value in ("", "  ", Masked(" ")):
        with pytest.raises(AuthMissingError):
            relay_token(value)
