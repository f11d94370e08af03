"""A settings file that somebody else has put into the working directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tunnelkit.config import (
    AgentSettings,
    Masked,
    load_agent,
    load_egress,
    load_exit,
    load_relay,
    load_zone,
)
from tunnelkit.errors import AuthError, InvalidError

NOTHING: Mapping[str, str] = {}
MINE = "ws://mine:1"
THEIRS = "ws://theirs:1"
PIN = "ab" * 32
HOST_KEY = "SHA256:" + "A" * 43


@pytest.fixture
def mine(here: Path) -> Path:
    """The user's own configuration directory."""
    return here.parent / "user"


def write(directory: Path, *lines: str) -> None:
    (directory / "tunnelkit.toml").write_text("\n".join(lines))


def token_of(settings: AgentSettings) -> tuple[str, str]:
    return settings.relay, settings.token.reveal()


# --- my token, their relay ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "environ", "place"),
    [
        ({"token": "mine"}, {}, "--token"),
        ({}, {"TUNNELKIT_TOKEN": "mine"}, "TUNNELKIT_TOKEN"),
        ({}, {"TUNNELKIT_TOKEN_FILE": "token"}, "TUNNELKIT_TOKEN_FILE"),
        ({}, {}, "user/tunnelkit.toml:1: token"),
    ],
)
def test_a_relay_found_here_is_not_sent_my_token(
    here: Path, mine: Path, overrides: dict[str, object], environ: dict[str, str], place: str
) -> None:
    write(here, f'\nrelay = "{THEIRS}"')
    if not (overrides or environ):
        write(mine, 'token = "mine"')
    with pytest.raises(AuthError) as caught:
        load_agent(overrides, environ=environ)
    assert caught.value.what.startswith(f"{here}/tunnelkit.toml:2: relay: ")
    assert caught.value.what.endswith(place)
    assert "TUNNELKIT_RELAY" in caught.value.hint
    assert "mine" not in str(caught.value).replace(str(mine), "")


def test_nor_where_my_own_file_is_for_another_relay(here: Path, mine: Path) -> None:
    write(mine, f'relay = "{MINE}"', 'token = "mine"')
    write(here, f'relay = "{THEIRS}"')
    with pytest.raises(AuthError):
        load_agent(environ=NOTHING)


def test_naming_the_relay_myself_is_consent(here: Path, mine: Path) -> None:
    write(here, f'relay = "{THEIRS}"')
    environ = {"TUNNELKIT_TOKEN": "mine"}
    assert token_of(load_agent({"relay": THEIRS}, environ=environ)) == ("ws://theirs:1", "mine")
    named = {**environ, "TUNNELKIT_RELAY": THEIRS}
    assert token_of(load_agent(environ=named)) == ("ws://theirs:1", "mine")
    write(mine, f'relay = "{THEIRS}/"')
    assert token_of(load_agent(environ=environ)) == ("ws://theirs:1", "mine")


def test_a_relay_found_here_may_do_without_a_token_or_bring_one(here: Path, mine: Path) -> None:
    write(here, f'relay = "{THEIRS}"')
    assert token_of(load_agent(environ=NOTHING)) == ("ws://theirs:1", "")
    (here / "token").write_text("theirs")
    write(here, f'relay = "{THEIRS}"', 'token_file = "token"')
    write(mine, f'relay = "{MINE}"', 'token = "mine"')
    for environ in ({}, {"TUNNELKIT_TOKEN": "mine"}):
        assert token_of(load_agent(environ=environ)) == ("ws://theirs:1", "theirs")
    with pytest.raises(AuthError, match="--token"):
        load_agent({"token": "mine"}, environ=NOTHING)


def test_the_relay_on_this_machine_needs_no_trust(here: Path) -> None:
    write(here, 'relay = "local"')
    assert load_agent(environ={"TUNNELKIT_TOKEN": "mine"}).relay == ""


def test_the_file_in_my_configuration_directory_is_mine_wherever_i_stand(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(mine, f'relay = "{MINE}"')
    monkeypatch.chdir(mine)
    assert token_of(load_agent(environ={"TUNNELKIT_TOKEN": "mine"})) == ("ws://mine:1", "mine")


# --- my relay, their proof of it ------------------------------------------------------------------


@pytest.mark.parametrize(
    "proof",
    [
        'ca = "theirs.pem"',
        f'fingerprint = "{PIN}"',
        f'host_key = "{HOST_KEY}"',
        'known_hosts = "theirs"',
        'identity_file = "theirs"',
    ],
)
def test_a_file_found_here_does_not_say_how_my_relay_is_recognised(
    here: Path, mine: Path, proof: str
) -> None:
    environ = {"TUNNELKIT_RELAY": MINE, "TUNNELKIT_TOKEN": "mine"}
    write(here, proof)
    assert load_agent(environ=environ) == AgentSettings(relay="ws://mine:1", token=Masked("mine"))
    write(here, f'relay = "{MINE}"', proof)
    write(mine, f'relay = "{MINE}"', 'token = "mine"')
    assert load_agent(environ=NOTHING) == AgentSettings(relay="ws://mine:1", token=Masked("mine"))


def test_their_token_is_not_sent_to_my_relay(here: Path) -> None:
    write(here, f'relay = "{THEIRS}"', 'token = "theirs"')
    assert token_of(load_agent({"relay": MINE}, environ=NOTHING)) == ("ws://mine:1", "")


def test_a_token_without_its_relay_is_not_left_out_in_silence(here: Path) -> None:
    write(here, 'token = "whose"')
    with pytest.raises(AuthError, match=r"toml:1: token: This token is not sent .* TUNNELKIT_RELAY"):
        load_agent(environ={"TUNNELKIT_RELAY": MINE})


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../private", "{private}", "~/private", "link", "-", "sub/../../private"])
def test_a_file_found_here_names_no_token_file_elsewhere(here: Path, name: str) -> None:
    private = here.parent / "private"
    private.write_text("mine")
    (here / "link").symlink_to(private)
    write(here, f'relay = "{THEIRS}"', f'token_file = "{name.format(private=private)}"')
    with pytest.raises(InvalidError, match=r"tunnelkit.toml:2: token_file: .* is not below"):
        load_agent(environ=NOTHING)


# --- zones ----------------------------------------------------------------------------------------


def test_a_zone_found_here_is_not_sent_my_token(here: Path, mine: Path) -> None:
    write(mine, "[zones.eu]", f'relay = "{MINE}"')
    environ = {"TUNNELKIT_TOKEN": "mine", "TUNNELKIT_RELAY": "ws://other:1"}
    assert token_of(load_agent(zone="eu", environ=environ)) == ("ws://mine:1", "mine")
    assert load_zone("eu").own
    write(here, "[zones.eu]", f'relay = "{THEIRS}"')
    with pytest.raises(AuthError, match=r"tunnelkit.toml:2: zones.eu.relay: "):
        load_agent(zone="eu", environ=environ)
    assert not load_zone("eu").own


# --- relays ---------------------------------------------------------------------------------------


def test_who_may_open_tunnels_is_not_up_to_a_file_found_here(here: Path, mine: Path) -> None:
    write(here, "[serve]", 'token = "theirs"', 'domain = "here.test"')
    assert load_relay(environ=NOTHING).token == (Masked("theirs"),)
    settings = load_relay(environ={"TUNNELKIT_TOKEN": "mine"})
    assert (settings.token, settings.domain) == ((Masked("mine"),), "here.test")
    write(mine, "[serve]", 'token = "mine"')
    assert load_relay(environ=NOTHING).token == (Masked("mine"),)
    write(here, "[serve]", "open = true")
    assert not load_relay(environ=NOTHING).open


def test_nor_are_the_keys_that_may_log_in(here: Path, mine: Path) -> None:
    write(here, "[serve]", 'authorized_keys = "theirs"')
    assert load_relay(environ=NOTHING).authorized_keys == str(here / "theirs")
    for environ in ({"TUNNELKIT_TOKEN": "mine"}, {"TUNNELKIT_OPEN": "yes"}):
        with pytest.raises(AuthError, match=r"toml:2: serve.authorized_keys: .*TUNNELKIT_AUTHORIZED_KEYS"):
            load_relay(environ=environ)
    write(mine, "[serve]", 'authorized_keys = "mine"')
    settings = load_relay(environ={"TUNNELKIT_TOKEN": "mine"})
    assert (settings.token, settings.authorized_keys) == ((Masked("mine"),), str(mine / "mine"))
    write(here, "[serve]", 'token = "theirs"')
    with pytest.raises(AuthError, match=r"toml:2: serve.token: "):
        load_relay(environ=NOTHING)
    write(here, "[serve]", "open = true")
    assert not load_relay(environ=NOTHING).open


# --- egress ---------------------------------------------------------------------------------------


def test_who_may_use_my_proxy_is_not_up_to_a_file_found_here(here: Path, mine: Path) -> None:
    write(here, "[egress]", "open = true", 'client = "192.0.2.0/24"', 'source_ip = "127.0.0.2"')
    assert load_egress(environ=NOTHING).open
    write(mine, "[egress]", 'client = "127.0.0.0/8"')
    settings = load_egress(environ=NOTHING)
    assert (settings.open, settings.client) == (False, ("127.0.0.0/8",))
    assert settings.source_ip == ("127.0.0.2",)
    settings = load_egress(environ={"TUNNELKIT_EGRESS_CLIENT": "127.0.0.1"})
    assert (settings.open, settings.client) == (False, ("127.0.0.1",))


def test_nor_is_where_others_may_go_by_my_exit(here: Path, mine: Path) -> None:
    write(here, "[exit]", 'rules = ["allow *"]', 'zone = "eu"')
    assert load_exit(environ=NOTHING).rules == ("allow *",)
    write(mine, "[exit]", 'rules = ["deny *"]')
    settings = load_exit(environ=NOTHING)
    assert (settings.rules, settings.zone) == (("deny *",), "eu")


@pytest.mark.parametrize(
    "line",
    ['via = "wss://relay.test"', 'upstream = "socks5://192.0.2.1:1080"'],
)
def test_nor_is_what_my_proxy_hands_its_connections_to(here: Path, mine: Path, line: str) -> None:
    name = line.split()[0]
    write(here, "[egress]", line)
    with pytest.raises(AuthError, match=rf"toml:2: egress.{name}: ") as caught:
        load_egress(environ=NOTHING)
    assert f"TUNNELKIT_EGRESS_{name.upper()}" in caught.value.hint
    write(here)
    write(mine, "[egress]", line)
    load_egress(environ=NOTHING)


@pytest.mark.parametrize("name", ["/tmp/log", "../log", "~/.profile", "link/log"])
def test_its_log_is_beside_the_file_that_names_it(here: Path, mine: Path, name: str) -> None:
    (here / "link").symlink_to("..")
    write(here, "[egress]", f'access_log = "{name}"')
    with pytest.raises(InvalidError, match=r"toml:2: egress.access_log: .* is not below") as caught:
        load_egress(environ=NOTHING)
    assert "--access-log" in caught.value.hint
    write(here)
    write(mine, "[egress]", f'access_log = "{name}"')
    load_egress(environ=NOTHING)


@pytest.mark.parametrize("name", ["off", "-", "log", "logs/egress"])
def test_which_it_may_be(here: Path, name: str) -> None:
    write(here, "[egress]", f'access_log = "{name}"')
    written = load_egress(environ=NOTHING).access_log
    assert written == (name if name in ("off", "-") else str(here / name))
