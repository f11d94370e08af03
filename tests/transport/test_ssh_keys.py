from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunnelkit.egress.policy import Policy
from tunnelkit.errors import InvalidError, TunnelkitError
from tunnelkit.transport.ssh_keys import AuthorizedKeys, KeyRules

KEY = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
LINE = KEY.export_public_key().decode().strip()


def rules(path: Path, text: str, address: str = "192.0.2.1", now: float = 0.0) -> KeyRules | None:
    path.write_text(text)
    return AuthorizedKeys(str(path), clock=lambda: now).find(KEY, address)


def test_a_plain_key_may_do_anything(tmp_path: Path) -> None:
    found = rules(tmp_path / "keys", f"\n# ours\n{LINE} comment with spaces\n")
    assert found == KeyRules()
    assert found.permits("app", 80)
    assert found.permits("", 0)


def test_the_last_of_the_words_that_contradict_each_other_counts(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert rules(path, f"restrict {LINE}") == KeyRules(forwarding=False, pty=False)
    assert rules(path, f"restrict,port-forwarding,pty {LINE}") == KeyRules()
    assert rules(path, f"No-PTY {LINE}") == KeyRules(pty=False)


def test_listening(tmp_path: Path) -> None:
    text = f'permitlisten="team-*:80",permitlisten="20001",permitlisten="[localhost]:0" {LINE}'
    found = rules(tmp_path / "keys", text)
    assert found is not None
    assert [found.permits(*asked) for asked in (("team-a", 80), ("", 20001), ("", 0))] == [True] * 3
    assert [found.permits(*asked) for asked in (("app", 80), ("", 80), ("", 20002))] == [False] * 3


def test_where_it_may_leave_for(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    text = (
        'permitopen="*:443",permitopen="db.example.com:5432",permitopen="*:*",permitopen="[2001:db8::1]:22"'
    )
    found = rules(path, f"{text} {LINE}")
    assert found is not None
    assert found.open == ("*:443", "db.example.com:5432", "*", "[2001:db8::1]:22")
    Policy.parse(f"allow {destination}" for destination in found.open)  # is of the egress proxy's grammar
    assert rules(path, LINE) == KeyRules(open=())


@pytest.mark.parametrize(
    "value", ["", "a.example", ":443", "a b:443", "a:0", "a:65536", "a:4x", "a;deny *:443"]
)
def test_where_nobody_can_leave_for(value: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="line 1: permitopen"):
        rules(tmp_path / "keys", f'permitopen="{value}" {LINE}')


def test_destinations_have_an_end(tmp_path: Path) -> None:
    many = ",".join(f'permitopen="host-{number}.example.com:443"' for number in range(70))
    with pytest.raises(InvalidError, match="more than 1500 characters"):
        rules(tmp_path / "keys", f"{many} {LINE}")


def test_the_first_entry_that_admits_counts(tmp_path: Path) -> None:
    text = f'from="10.0.0.0/8" {LINE}\nrestrict,expiry-time="19700102Z" {LINE}\nno-pty {LINE}\n'
    path = tmp_path / "keys"
    assert rules(path, text, "10.1.2.3") == KeyRules()
    assert rules(path, text) == KeyRules(forwarding=False, pty=False)
    assert rules(path, text, now=86_400) == KeyRules(pty=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_line_is_understood_or_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    try:
        rules(path, f"{text} {LINE}")
        said = str(path)
    except TunnelkitError as error:
        said = str(error)
    assert str(path) in said
