"""Questions on a terminal: what is typed does not show, and the terminal is put back."""

from __future__ import annotations

import signal

import pytest

from tests.cli.stored import Stored
from tests.cli.support import Terminal
from tunnelkit.errors import MasterKeyError

CANARY = "canary-5a77"


def test_a_value_is_asked_for_and_does_not_show(stored: Stored) -> None:
    with Terminal(stored.here, "secret", "create", "s", "USER=-", "PASSWORD=-") as terminal:
        terminal.expect("Value of USER: $")
        terminal.type(b"app\n")
        terminal.expect("Value of PASSWORD: $")
        terminal.type(CANARY.encode() + b"\n")
        terminal.expect("is version 1, with PASSWORD, USER")
        assert terminal.ended() == 0
    assert stored.values("s") == {"USER": "app", "PASSWORD": CANARY}
    assert CANARY not in terminal.output


def test_a_gateway_is_asked_for_and_does_not_show(stored: Stored) -> None:
    with Terminal(stored.here, "proxy", "create", "p", "--gateway", "-") as terminal:
        terminal.expect("URL of the gateway: $")
        terminal.type(f"http://user:{CANARY}@gateway\n".encode())
        terminal.expect(r"leave by http://user:\*\*\*@gateway")
    assert CANARY not in terminal.output


def test_a_new_passphrase_is_asked_for_twice(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    with Terminal(stored.here, "secret", "rotate-key", "--to", "passphrase") as terminal:
        for typed, then in (
            (CANARY, "Repeat for confirmation: $"),
            ("other", "New passphrase of the store: $"),
            (CANARY, "Repeat for confirmation: $"),
            (CANARY, r"\(passphrase\) now"),
        ):
            terminal.expect(r"New passphrase of the store: $|Repeat for confirmation: $")
            terminal.output = ""
            terminal.type(typed.encode() + b"\n")
            terminal.expect(then)
    with Terminal(
        stored.here, "secret", "run", "--secret", "s", "--", "sh", "-c", "echo A is $A"
    ) as terminal:
        terminal.expect("Passphrase of the store: $")
        terminal.type(CANARY.encode() + b"\n")
        terminal.expect("A is 1")
        assert CANARY not in terminal.output
    with Terminal(stored.here, "secret", "update", "s", "A=2") as terminal:
        terminal.expect("Passphrase of the store: $")
        terminal.type(b"wrong" + CANARY.encode() + b"\n")
        terminal.expect(r"error: The passphrase is not the store's.* \[master_key\]")
        assert terminal.ended() == MasterKeyError.exit_status
        assert CANARY not in terminal.output


@pytest.mark.parametrize(("answer", "status", "left"), [("y", 0, []), ("n", 1, ["s"]), ("", 1, ["s"])])
def test_delete_asks(stored: Stored, answer: str, status: int, left: list[str]) -> None:
    stored.ok("secret", "create", "s", "A=1")
    with Terminal(stored.here, "secret", "delete", "s") as terminal:
        terminal.expect(r"Delete the secret 's' in environment 'main' with all its versions\? \[y/N\]: $")
        terminal.type(answer.encode() + b"\n")
        assert terminal.ended() == status
    assert [it["name"] for it in stored.told("secret", "list")] == left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_question_and_the_terminal_shows_what_is_typed_again(
    stored: Stored, number: signal.Signals
) -> None:
    with Terminal(stored.here, "secret", "create", "s", "A=-") as terminal:
        terminal.expect("Value of A: $")
        assert not terminal.echoes()
        assert terminal.end(number) == 128 + number
        assert terminal.echoes()
    assert "Traceback" not in terminal.output
    assert stored.contents() == {"main": []}


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_keys_that_end_a_question(stored: Stored, key: bytes) -> None:
    with Terminal(stored.here, "secret", "create", "s", "A=-") as terminal:
        terminal.expect("Value of A: $")
        terminal.type(key)
        assert terminal.ended() == 130
        assert terminal.echoes()
    assert "Traceback" not in terminal.output
    assert stored.contents() == {"main": []}
