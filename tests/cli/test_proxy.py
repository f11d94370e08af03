"""``tunnelkit proxy``."""

from __future__ import annotations

import pytest

from tests.cli.stored import Stored
from tunnelkit.config.store import Kind

CANARY = "canary-c4e1"
GATEWAY = f"socks5h://user:{CANARY}@gateway.example:1080"
SHOWN = "socks5h://user:***@gateway.example:1080"


def test_addresses_of_this_machine_in_their_order(stored: Stored) -> None:
    result = stored.run("proxy", "create", "partner", "--ip", "::1", "--ip", " 127.0.0.1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "Connections through proxy 'partner' in environment 'main' leave by ::1, 127.0.0.1\n"
    )
    facts = stored.told("proxy", "info", "partner")
    assert (facts["kind"], facts["route"]) == ("ip", "::1, 127.0.0.1")


def test_a_gateway_is_kept_with_its_password_and_shown_without(stored: Stored) -> None:
    said = stored.ok("proxy", "create", "office", "--gateway", GATEWAY)
    said += stored.ok("proxy", "list") + stored.ok("proxy", "info", "office")
    facts = stored.told("proxy", "info", "office")
    assert (facts["kind"], facts["route"]) == ("gateway", SHOWN)
    assert said.count(SHOWN) == 3
    assert CANARY not in said + str(stored.told("proxy", "list"))
    assert stored.values("office", kind=Kind.PROXY) == {"gateway": GATEWAY}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_gateway_from_standard_input(stored: Stored, end: str) -> None:
    stored.ok("proxy", "create", "office", "--gateway", "-", stdin=GATEWAY + end)
    assert stored.values("office", kind=Kind.PROXY) == {"gateway": GATEWAY}
    stored.refuses("invalid", "proxy", "create", "x", "--gateway", "-", stdin=b"\xff" + GATEWAY.encode())
    stored.refuses("invalid", "proxy", "create", "x", "--gateway", "-", stdin=GATEWAY + "a" * 5000)


def test_force_replaces(stored: Stored) -> None:
    stored.ok("proxy", "create", "p", "--gateway", GATEWAY)
    stored.ok("proxy", "create", "p", "--ip", "127.0.0.1", "--force")
    assert stored.values("p", kind=Kind.PROXY) == {"ips": "127.0.0.1"}
    assert stored.told("proxy", "info", "p")["version"] == 2


def test_list_info_and_delete(stored: Stored) -> None:
    assert stored.run("proxy", "list").stderr == "There is no proxy in environment 'main'\n"
    assert stored.told("proxy", "list") == []
    stored.ok("proxy", "create", "b", "--ip", "127.0.0.1")
    stored.ok("proxy", "create", "a", "--gateway", "http://gateway")
    heading, *rows = stored.run("proxy", "list").stdout.splitlines()
    assert heading.split() == ["NAME", "CREATED", "KIND", "LEAVES", "BY"]
    assert [(row.split()[0], *row.split()[-2:]) for row in rows] == [
        ("a", "gateway", "http://gateway"),
        ("b", "ip", "127.0.0.1"),
    ]
    first, second, third, *_ = stored.run("proxy", "info", "b").stdout.splitlines()
    assert (first.split(), second.split()) == (["name", "b"], ["environment", "main"])
    assert third.split() == ["ip", "127.0.0.1"]
    assert stored.ok("proxy", "delete", "b", "--yes") == "Proxy 'b' is deleted\n"
    assert stored.ok("proxy", "delete", "b", "-y", "--allow-missing") == (
        "There was no proxy 'b' in environment 'main'\n"
    )
    assert [it["name"] for it in stored.told("proxy", "list")] == ["a"]


def test_to_look_at_a_proxy_is_not_to_use_it(stored: Stored) -> None:
    stored.ok("proxy", "create", "p", "--ip", "127.0.0.1")
    for command in (["list"], ["info", "p"]):
        stored.ok("proxy", *command)
    assert stored.told("proxy", "info", "p")["last_used_at"] is None
    assert [it["action"] for it in stored.told("secret", "audit")] == ["create"]


def test_each_environment_has_its_own(stored: Stored) -> None:
    stored.ok("environment", "create", "prod")
    stored.ok("proxy", "create", "p", "--ip", "127.0.0.1", "--env", "prod")
    assert stored.told("proxy", "list") == []
    assert stored.told("proxy", "info", "p", "-e", "prod")["environment"] == "prod"
    assert len(stored.told("proxy", "list", "-e", "prod")) == 1
    stored.ok("proxy", "delete", "p", "--yes", "-e", "prod")
    assert stored.told("proxy", "list", "-e", "prod") == []


def test_a_secret_may_have_the_same_name(stored: Stored) -> None:
    stored.ok("proxy", "create", "same", "--ip", "127.0.0.1")
    stored.ok("secret", "create", "same", "A=1")
    stored.ok("proxy", "delete", "same", "--yes")
    assert stored.values("same") == {"A": "1"}
