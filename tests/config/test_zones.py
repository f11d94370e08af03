from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.config import AgentSettings, Masked, Zone, load_agent, load_zone, load_zones
from tunnelkit.errors import InvalidError

ZONES = """
relay = "ws://main:1"
token = "main"
fingerprint = "{pin}"

[zones.eu-west-1]
relay = "ws://eu:1"
token_file = "eu.token"
exit = "Frankfurt"
workers = {{ "ray.io/region" = "eu", tier = "fast" }}

[zones.us-east-1]
relay = "ws://us:1"

[zones.lab]
exit = "lab"
"""


@pytest.fixture
def user(here: Path) -> Path:
    user = here.parent / "user"
    (user / "tunnelkit.toml").write_text(ZONES.format(pin="ab" * 32))
    (user / "eu.token").write_text("europe")
    return user


def test_one_word_names_relay_exit_and_workers(user: Path) -> None:
    zone = load_zone("eu-west-1")
    assert zone == Zone(
        name="eu-west-1",
        relay="ws://eu:1",
        token_file=str(user / "eu.token"),
        exit="frankfurt",
        workers={"ray.io/region": "eu", "tier": "fast"},
    )
    assert zone.labels == zone.workers
    assert load_zone("lab").labels == {"ray.io/zone": "lab"}
    assert list(load_zones()) == ["eu-west-1", "us-east-1", "lab"]


def test_the_agent_of_a_zone_goes_to_its_relay(user: Path) -> None:
    assert load_agent(zone="eu-west-1", environ={}) == AgentSettings(
        relay="ws://eu:1", token=Masked("europe"), token_file=str(user / "eu.token")
    )
    assert load_agent(zone="us-east-1", environ={}) == AgentSettings(
        relay="ws://us:1", token=Masked("main")
    ), "the one token of all relays, but not the pin of another"


def test_a_zone_is_what_the_first_file_says(user: Path, here: Path) -> None:
    (here / "tunnelkit.toml").write_text('[zones.eu-west-1]\nexit = "here"')
    assert load_zone("eu-west-1") == Zone(name="eu-west-1", exit="here", own=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eu-west-2", "no zone 'eu-west-2'. Is it 'eu-west-1'"),
        ("moon", "There are eu-west-1, us-east-1, lab"),
        ("no/zone", "cannot be the name of a zone"),
        ("lab", "The zone 'lab' names no relay"),
    ],
)
def test_a_zone_that_cannot_be_is_refused(user: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        load_agent(zone=name, environ={})


def test_a_zone_and_a_relay_contradict_each_other(user: Path) -> None:
    with pytest.raises(InvalidError, match="--zone and --relay"):
        load_agent({"relay": "ws://x:1"}, zone="lab", environ={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[zones.a]\nrelya = 1", r"tunnelkit.toml:2: .*'relya' in \[zones.a\]. Is it 'relay'"),
        ("[zones.a]\n\nrelay = ''", "tunnelkit.toml:3: zones.a.relay: Empty"),
        ("[zones.a]\nrelay = 'local'", "zones.a.relay: 'local' is no relay's address"),
        ("[zones.a]\nexit = 'a b'", "zones.a.exit: "),
        ("[zones.a]\nworkers = 'x'", "zones.a.workers: Not a table of labels"),
        ("[zones.a]\nworkers = { 'a b' = 'x' }", "Not the name of a label: 'a b'"),
        ("[zones.a]\nworkers = { a = 1 }", "Not a label: a = '1'"),
        ("[zones.a]\ntoken = 'a'\ntoken_file = 'b'", "Both zones.a.token and zones.a.token_file"),
        ("[zones.'a b']", r"tunnelkit.toml:1: 'a b' cannot be the name of a zone"),
    ],
)
def test_a_wrong_zone_is_refused_with_its_line(here: Path, text: str, message: str) -> None:
    (here / "tunnelkit.toml").write_text(text)
    with pytest.raises(InvalidError, match=message):
        load_zone("a")
