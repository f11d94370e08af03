"""``tunnelkit config``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.stored import Stored

CANARY = "canary-d81a"
KEY = "00" * 31 + "c4"


@pytest.fixture
def settings(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file here, and variables, with secrets in all of them."""
    path = stored.here / "tunnelkit.toml"
    path.write_text(
        f"""relay = "wss://relay.example.com"
token = "{CANARY}"
[serve]
token = ["{CANARY}-1", "{CANARY}-2"]
tcp_ports = "20000-20010"
"""
    )
    for name, value in {
        "GRACE": "2.5",
        "MASTER_KEY": KEY,
        "OLD_PASSPHRASE": CANARY,
        "LOG": "debug",
    }.items():
        monkeypatch.setenv(f"TUNNELKIT_{name}", value)
    return path


def test_show_says_where_each_value_comes_from(stored: Stored, settings: Path) -> None:
    result = stored.run("config", "show")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    rows = {name: " ".join(rest.split()) for name, rest in rows.items()}
    assert rows["SETTING"] == "VALUE FROM"
    assert rows["relay"] == f"wss://relay.example.com:443 {settings}:1"
    assert rows["token"] == f"… {settings}:2"
    assert rows["ca"] == "- default"
    assert rows["serve.token"] == f"…, … {settings}:4"
    assert rows["serve.tcp_ports"] == f"20000-20010 {settings}:5"
    assert rows["serve.grace"] == "2.5 TUNNELKIT_GRACE"
    assert rows["serve.open"] == "false default"
    assert rows["TUNNELKIT_MASTER_KEY"] == "… environment"
    assert rows["TUNNELKIT_LOG"] == "debug environment"
    assert rows["TUNNELKIT_ENVIRONMENT"] == "main default"


def test_show_as_json(stored: Stored, settings: Path) -> None:
    told = {it.pop("name"): it for it in stored.told("config", "show")}
    assert told["relay"] == {"value": "wss://relay.example.com:443", "source": str(settings), "line": 1}
    assert told["ca"] == {"value": None, "source": "default"}
    assert told["serve.token"] == {"value": ["…", "…"], "source": str(settings), "line": 4}
    assert told["serve.grace"] == {"value": 2.5, "source": "TUNNELKIT_GRACE"}
    assert told["serve.open"] == {"value": False, "source": "default"}


def test_no_secret_shows(stored: Stored, settings: Path) -> None:
    for arguments in (["show"], ["show", "--json"], ["check"], ["check", "--json"]):
        output = stored.ok("config", *arguments)
        assert CANARY not in output
        assert KEY not in output


def test_show_ends_at_the_first_mistake(stored: Stored, settings: Path) -> None:
    settings.write_text('relya = "ws://a"\n')
    result = stored.run("config", "show")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"{settings}:1" in result.stderr
    assert "Is it 'relay'?" in result.stderr


def test_check_without_a_mistake(stored: Stored, settings: Path) -> None:
    result = stored.run("config", "check")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No mistakes\n")
    assert stored.told("config", "check") == []


MISTAKEN = f"""relay = "http://relay.example.com"
tokn = "{CANARY}"

[serve]
grace = "long"
tcp_prots = "1-5"
"""


def test_check_tells_every_mistake_with_its_line(
    stored: Stored, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text(MISTAKEN)
    monkeypatch.setenv("TUNNELKIT_LOG", "loud")
    monkeypatch.setenv("TUNNELKIT_TOKN", CANARY)
    result = stored.run("config", "check")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert all(line.endswith("]") for line in lines)
    in_the_file = [line.removeprefix(f"error: {settings}:") for line in lines if str(settings) in line]
    assert [line.partition(":")[0] for line in in_the_file] == ["1", "2", "5", "6"]
    assert "'token'?" in in_the_file[1]
    assert "'tcp_ports'?" in in_the_file[3]
    assert sorted(line.split("TUNNELKIT_")[1][:4] for line in set(lines[:2])) == ["LOG=", "TOKN"]
    assert CANARY not in result.output


def test_check_as_json(stored: Stored, settings: Path) -> None:
    settings.write_text(MISTAKEN)
    result = stored.run("config", "check", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    told = json.loads(result.stdout)
    assert [(it["file"], it["line"]) for it in told] == [(str(settings), line) for line in (1, 2, 5, 6)]
    assert told[2]["name"] == "serve.grace"
    assert told[3]["hint"] == "Is it 'tcp_ports'?"
    assert {it["code"] for it in told} == {"invalid"}
