"""``tunnelkit secret``, but for what needs a process or a terminal of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.stored import Stored
from tunnelkit.config.names import MAX_SIZE

CANARY = "canary-7b1f"


# --- create ---------------------------------------------------------------------------------------


def test_create_says_what_there_is_now_and_no_value(stored: Stored) -> None:
    result = stored.run("secret", "create", "database", "USER=app", f"PASSWORD={CANARY}")
    assert result.stdout == ""
    assert result.stderr == ("Secret 'database' in environment 'main' is version 1, with PASSWORD, USER\n")
    assert stored.values("database") == {"USER": "app", "PASSWORD": CANARY}


def test_a_value_is_all_after_the_first_equals_sign(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "URL=http://host/?a=b", "DASH=-x", "SPACES= a ")
    assert stored.values("s") == {"URL": "http://host/?a=b", "DASH": "-x", "SPACES": " a "}


@pytest.mark.parametrize(
    ("piped", "value"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (" grüße \n".encode(), " grüße "),
        (b"\xff\xfe", "\udcff\udcfe"),
    ],
)
def test_a_dash_is_standard_input_without_its_last_line_end(stored: Stored, piped: bytes, value: str) -> None:
    stored.ok("secret", "create", "s", "KEY=-", stdin=piped)
    assert stored.values("s") == {"KEY": value}


def test_the_largest_value_may_have_a_line_end_after_it(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "KEY=-", stdin=b"a" * MAX_SIZE + b"\r\n")
    assert len(stored.values("s")["KEY"]) == MAX_SIZE
    stored.refuses("invalid", "secret", "update", "s", "KEY=-", stdin=b"a" * MAX_SIZE + b"b")


def test_files_and_what_comes_first(stored: Stored) -> None:
    Path(".env").write_text("A=dotenv\nB=dotenv\nexport C='dotenv'\nEMPTY=\n")
    Path("more.json").write_text('{"B": "json", "C": "json", "NOTHING": null}')
    files = ["--from-dotenv", ".env", "--from-json", "more.json"]
    stored.ok("secret", "create", "s", "C=typed", *files)
    assert stored.values("s") == {"A": "dotenv", "B": "json", "C": "typed", "EMPTY": ""}


@pytest.mark.parametrize(
    ("option", "text"), [("--from-dotenv", b"KEY=value\n"), ("--from-json", b'{"KEY": "value"}')]
)
def test_a_file_may_be_standard_input(stored: Stored, option: str, text: bytes) -> None:
    stored.ok("secret", "create", "s", option, "-", stdin=text)
    assert stored.values("s") == {"KEY": "value"}


def test_force_replaces_all_variables_and_keeps_the_version_before(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1", "B=1")
    assert "is version 2, with A\n" in stored.ok("secret", "create", "s", "A=2", "--force")
    assert stored.values("s") == {"A": "2"}
    assert [it["keys"] for it in stored.told("secret", "history", "s")] == [["A"], ["A", "B"]]


def test_force_is_no_error_where_there_is_nothing_to_replace(stored: Stored) -> None:
    assert "is version 1" in stored.ok("secret", "create", "s", "A=1", "--force")


# --- list and info --------------------------------------------------------------------------------


def test_list(stored: Stored) -> None:
    assert stored.run("secret", "list").stderr == "There is no secret in environment 'main'\n"
    assert stored.told("secret", "list") == []
    stored.ok("secret", "create", "web", "TOKEN=x")
    stored.ok("secret", "create", "database", "USER=app", f"PASSWORD={CANARY}")
    heading, first, second = stored.run("secret", "list").stdout.splitlines()
    assert heading.split("  ")[0] == "NAME"
    assert first.startswith("database  1 ")
    assert first.endswith("  never      PASSWORD USER")
    assert second.startswith("web       1 ")
    assert [it["name"] for it in stored.told("secret", "list")] == ["database", "web"]


def test_info_shows_who_made_it_who_used_it_and_no_value(stored: Stored) -> None:
    stored.ok("secret", "create", "database", "USER=app", f"PASSWORD={CANARY}")
    facts = stored.told("secret", "info", "database")
    created = datetime.fromisoformat(facts["created_at"])
    assert timedelta(0) <= datetime.now(UTC) - created < timedelta(minutes=1)
    assert (facts["keys"], facts["version"], facts["last_used_at"]) == (["PASSWORD", "USER"], 1, None)
    stored.values("database")
    assert stored.told("secret", "info", "database")["last_used_by"].startswith(facts["created_by"])
    lines = stored.run("secret", "info", "database").stdout.splitlines()
    assert lines[:4] == [
        "name         database",
        "environment  main",
        "variables    PASSWORD USER",
        "version      1",
    ]
    assert [line.partition("  ")[0] for line in lines[4:]] == ["created", "changed", "last used"]


# --- update, history, rollback, delete ------------------------------------------------------------


def test_update_leaves_the_others_as_they_are(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1", "B=1", "C=1")
    said = stored.ok("secret", "update", "s", "B=-", "D=4", "--unset", "C", stdin="2\n")
    assert said == "Secret 's' in environment 'main' is version 2, with A, B, D\n"
    assert stored.values("s") == {"A": "1", "B": "2", "D": "4"}
    stored.ok("secret", "update", "s", "--unset", "A", "--unset", "B")
    assert stored.values("s") == {"D": "4"}


def test_history_and_rollback(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    stored.ok("secret", "update", "s", "A=2", "B=2")
    assert "is version 3, which holds what version 1 does" in stored.ok("secret", "rollback", "s", "1")
    assert stored.values("s") == {"A": "1"}
    told = stored.told("secret", "history", "s")
    assert [(it["version"], it["current"]) for it in told] == [(3, True), (2, False), (1, False)]
    lines = stored.run("secret", "history", "s").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["VERSION", "3*", "2", "1"]
    assert lines[2].endswith("  A B")


def test_delete(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    stored.refuses("usage", "secret", "delete", "s")
    assert stored.ok("secret", "delete", "s", "--yes") == "Secret 's' in environment 'main' is deleted\n"
    stored.refuses("not_found", "secret", "delete", "s", "-y")
    gone = stored.ok("secret", "delete", "s", "--yes", "--allow-missing")
    assert gone == "There was no secret 's' in environment 'main'\n"


# --- the log and the key --------------------------------------------------------------------------


def test_audit_tells_who_did_what_and_no_value(stored: Stored) -> None:
    stored.ok("secret", "create", "s", f"A={CANARY}")
    stored.ok("secret", "update", "s", f"B={CANARY}")
    stored.ok("proxy", "create", "p", "--gateway", f"http://user:{CANARY}@gateway")
    stored.ok("secret", "delete", "s", "--yes")
    told = stored.told("secret", "audit")
    assert [(it["action"], it["kind"], it["name"]) for it in told] == [
        ("delete", "secret", "s"),
        ("create", "proxy", "p"),
        ("update", "secret", "s"),
        ("create", "secret", "s"),
    ]
    assert told[2]["keys"] == ["A", "B"]
    assert stored.told("secret", "audit", "--limit", "2") == told[:2]
    text = stored.run("secret", "audit").stdout
    assert text.splitlines()[0].split() == "TIME ACTION WHAT NAME ENVIRONMENT BY PROCESS".split()
    assert CANARY not in text + str(told)


def test_rotate_key(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    stored.ok("secret", "update", "s", "A=2")
    (before,) = (stored.home / "keys").iterdir()
    said = stored.ok("secret", "rotate-key")
    (after,) = (stored.home / "keys").iterdir()
    assert said == f"The key is {after.stem} (generated) now, and was {before.stem}: 2 rewrapped\n"
    assert stored.values("s") == {"A": "2"}


def test_rotate_key_to_a_passphrase(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.ok("secret", "create", "s", "A=1")
    stored.refuses("master_key", "secret", "rotate-key", "--to", "passphrase")
    monkeypatch.setenv("TUNNELKIT_PASSPHRASE", "correct horse battery")
    assert "(passphrase) now" in stored.ok("secret", "rotate-key", "--to", "passphrase")
    assert stored.values("s") == {"A": "1"}
    monkeypatch.delenv("TUNNELKIT_PASSPHRASE")
    assert stored.told("secret", "info", "s")["keys"] == ["A"]  # what is no value needs no key
    stored.refuses("master_key", "secret", "update", "s", "A=2")


def test_what_is_missing_is_created_where_it_was_looked_for(stored: Stored) -> None:
    stored.ok("environment", "create", "prod")
    said = stored.refuses("not_found", "secret", "info", "s", "-e", "prod")
    assert "`tunnelkit secret create s --env prod …`" in said
    assert "`tunnelkit secret create s …`" in stored.refuses("not_found", "secret", "info", "s")


# --- environments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["-e", "--env", "variable"])
def test_every_command_is_about_the_environment_that_is_named(
    stored: Stored, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.ok("environment", "create", "production")
    stored.ok("secret", "create", "s", "A=main")
    where = [how, "production"] if how != "variable" else []
    if not where:
        monkeypatch.setenv("TUNNELKIT_ENVIRONMENT", "production")
    stored.ok("secret", "create", "s", "A=production", *where)
    stored.ok("secret", "update", "s", "B=production", *where)
    stored.ok("secret", "rollback", "s", "1", *where)
    assert len(stored.told("secret", "history", "s", *where)) == 3
    assert stored.told("secret", "info", "s", *where)["environment"] == "production"
    assert [it["environment"] for it in stored.told("secret", "list", *where)] == ["production"]
    assert stored.values("s", "production") == {"A": "production"}
    stored.ok("secret", "delete", "s", "--yes", *where)
    assert stored.told("secret", "list", *where) == []
    assert stored.values("s") == {"A": "main"}
