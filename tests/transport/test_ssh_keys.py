from __future__ import annotations

from pathlib import Path

import asyncssh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunnelkit.errors import TunnelkitError
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
