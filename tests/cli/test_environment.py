"""``tunnelkit environment``."""

from __future__ import annotations

from tests.cli.stored import Stored


def test_create_list_delete(stored: Stored) -> None:
    assert [it["name"] for it in stored.told("environment", "list")] == ["main"]
    assert stored.ok("environment", "create", "prod") == "Environment 'prod' is there\n"
    stored.ok("secret", "create", "s", "A=1", "-e", "prod")
    stored.ok("proxy", "create", "p", "--ip", "127.0.0.1", "-e", "prod")
    stored.ok("proxy", "create", "q", "--ip", "127.0.0.1", "-e", "prod")
    told = {it["name"]: (it["secrets"], it["proxies"]) for it in stored.told("environment", "list")}
    assert told == {"main": (0, 0), "prod": (1, 2)}
    heading, main, prod = stored.run("environment", "list").stdout.splitlines()
    assert heading.split() == ["NAME", "SECRETS", "PROXIES", "CREATED", "BY"]
    assert main.split()[:3] == ["main", "0", "0"]
    assert prod.split()[:3] == ["prod", "1", "2"]
    assert stored.ok("environment", "delete", "prod", "--yes") == "Environment 'prod' is deleted\n"
    gone = stored.ok("environment", "delete", "prod", "-y", "--allow-missing")
    assert gone == "There was no environment 'prod'\n"
    stored.ok("environment", "create", "prod")
    assert stored.told("secret", "list", "-e", "prod") == []  # what was in it does not come back


def test_main_stays(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    for more in ([], ["--allow-missing"]):
        stored.refuses("invalid", "environment", "delete", "main", "--yes", *more)
    assert stored.values("s") == {"A": "1"}
