from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tunnelkit.config.check import MASK, check, show

NOTHING: Mapping[str, str] = {}
PIN = "ab" * 32


def write(directory: Path, text: str) -> Path:
    path = directory / "tunnelkit.toml"
    path.write_text(text)
    return path


def told(environ: Mapping[str, str] = NOTHING) -> list[str]:
    return [str(mistake.placed) for mistake in check(environ=environ)]


# --- show -----------------------------------------------------------------------------------------


def test_every_value_says_where_it_comes_from(here: Path) -> None:
    text = 'relay = "ws://mine:1"\n\ntoken = "hunter2"\n[zones.eu]\nexit = "x"\ntoken = "h"'
    mine = write(here.parent / "user", text)
    path = write(here, '[serve]\ntcp_ports = "1-5"\nlisten = [":1"]\ntoken = ["hunter2", "b"]')
    environ = {"TUNNELKIT_GRACE": "7", "TUNNELKIT_MASTER_KEY": "hunter2", "TUNNELKIT_LOG": "info"}
    shown = {it.name: (it.value, it.source, it.line) for it in show(environ=environ)}
    assert shown["relay"] == ("ws://mine:1", str(mine), 1)
    assert shown["token"] == (MASK, str(mine), 3)
    assert shown["ca"] == (None, "default", 0)
    assert shown["serve.tcp_ports"] == ("1-5", str(path), 2)
    assert shown["serve.listen"] == ([":1"], str(path), 3)
    assert shown["serve.token"] == ([MASK, MASK], str(path), 4)
    assert shown["serve.grace"] == (7.0, "TUNNELKIT_GRACE", 0)
    assert shown["zones.eu.exit"] == ("x", str(mine), 5)
    assert shown["zones.eu.token"] == (MASK, str(mine), 6)
    assert shown["TUNNELKIT_LOG"] == ("info", "environment", 0)
    assert shown["TUNNELKIT_MASTER_KEY"] == (MASK, "environment", 0)
    assert shown["TUNNELKIT_ENVIRONMENT"] == ("main", "default", 0)
    assert "hunter2" not in repr(shown)


# --- check ----------------------------------------------------------------------------------------


def test_nothing_wrong(here: Path) -> None:
    write(here, 'relay = "ws://x:1"\n[serve]\ntoken = "a"\n[zones.eu]\nrelay = "ws://y:1"')
    assert check(environ=NOTHING) == []


def test_every_mistake_is_told_with_its_line(here: Path) -> None:
    mine = write(here.parent / "user", 'fingerprint = "short"\n[serve]\ngrace = "long"\ndomian = "x"\n')
    path = write(
        here,
        """relay = "http://x"
relya = 1
token = ""
ca = "missing.pem"
serv = {}
[serve]
listen = []
token_file = "empty"
[zones.eu]
exit = "a b"
workers = { "a b" = "c" }
rely = 1
[zones."a b"]
""",
    )
    (here / "empty").write_text("# nothing\n")
    environ = {"TUNNELKIT_TOKN": "x", "TUNNELKIT_OPEN": "maybe", "TUNNELKIT_LOG": "loud"}
    lines = told(environ)
    places = [line.partition(" ")[0].removesuffix(":") for line in lines]
    assert [place for place in places if place.startswith("/")] == [
        *(f"{path}:{number}" for number in (1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13)),
        *(f"{mine}:{number}" for number in (1, 3, 4)),
    ]
    rest = "\n".join(line for line in lines if not line.startswith("/"))
    for word in ("TUNNELKIT_TOKN", "TUNNELKIT_OPEN: Neither", "TUNNELKIT_LOG='loud'"):
        assert word in rest
    assert "Is it 'relay'?" in lines[4]
    assert len(lines) == len(set(lines)) == 17


def test_a_file_that_is_no_toml_does_not_hide_the_others(here: Path) -> None:
    write(here.parent / "user", "nonsense = 1")
    write(here, "\nrelay =")
    first, second = told()
    assert "here/tunnelkit.toml:2: This is not TOML: " in first
    assert "user/tunnelkit.toml:1: There is no setting 'nonsense'" in second


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"TUNNELKIT_MASTER_KY": "x"}, "TUNNELKIT_MASTER_KY"),
        ({"TUNNELKIT_MASTER_KEY": ""}, "TUNNELKIT_MASTER_KEY"),
        ({"TUNNELKIT_ENVIRONMENT": "a b"}, "TUNNELKIT_ENVIRONMENT"),
        ({"TUNNELKIT_RELAY": ""}, "TUNNELKIT_RELAY: Empty"),
        ({"TUNNELKIT_TOKEN": "a", "TUNNELKIT_TOKEN_FILE": "b"}, "TUNNELKIT_TOKEN and TUNNELKIT_TOKEN_FILE"),
    ],
)
def test_mistakes_in_the_environment(here: Path, environ: dict[str, str], word: str) -> None:
    assert any(word in line for line in told(environ))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('\nrelay = "ws://x:1"', 2, "is not sent the token of TUNNELKIT_TOKEN"),
        ("[serve]\nopen = true", 2, ""),
        ('relay = "ws://x:1"\ntoken_file = "two"', 2, "has 2 tokens"),
        ('[serve]\n\nopen = true\ntoken = "a"', 3, "told to be open, and to ask for a token"),
    ],
)
def test_what_contradicts_each_other(here: Path, text: str, line: int, words: str) -> None:
    (here / "two").write_text("one\ntwo\n")
    path = write(here, text)
    environ = {"TUNNELKIT_TOKEN": "mine"} if "x:1" in text and "two" not in text else NOTHING
    lines = told(environ)
    if words:
        assert len(lines) == 1
        assert lines[0].startswith(f"{path}:{line}: ")
        assert words in lines[0]
    else:
        assert lines == []


def test_what_ssh_needs_is_looked_at(here: Path) -> None:
    lines = [
        'relay = "ssh://relay:2222"',
        'identity_file = "key"',
        'known_hosts = "hosts"',
        'host_key = "abc"',
    ]
    (here / "tunnelkit.toml").write_text("\n".join([*lines, "[serve]", 'authorized_keys = "keys"']))
    (here / "hosts").touch()
    found = [(it.line, it.error.what.replace(f"{here}/", "")) for it in check(environ={})]
    assert found == [
        (2, "key cannot be read: No such file or directory"),
        (4, "Not the fingerprint of a host key: 'abc'"),
        (6, "keys cannot be read: No such file or directory"),
    ]


def test_keys_that_are_not_let_in_are_a_mistake_among_others(here: Path) -> None:
    for name in ("keys", "tokens"):
        (here / name).write_text("a\nb\n")
    text = 'relay = "ws://x:1"\ntoken_file = "tokens"\n[serve]\nauthorized_keys = "keys"'
    (here / "tunnelkit.toml").write_text(text)
    (here.parent / "user" / "tunnelkit.toml").write_text('[serve]\ntoken = "mine"')
    assert [(it.line, it.name) for it in check(environ={})] == [
        (2, "token_file"),
        (4, "serve.authorized_keys"),
    ]


def test_what_is_said_of_tls_fits_together(here: Path) -> None:
    for name in ("a.pem", "b.pem"):
        (here / name).touch()
    path = write(here, '[serve]\ntls_cert = ["a.pem", "b.pem"]\ntls_key = "a.pem"')
    (line,) = told()
    assert line.startswith(f"{path}:3: ")
    assert "2 certificates, and 1 keys" in line
    write(here, '[serve]\ntls_cert = "a.pem"\n\ntls_self_signed = true')
    (line,) = told()
    assert line.startswith(f"{path}:4: ")
    write(here, "[serve]\nhsts = 60")
    (line,) = told()
    assert line.startswith(f"{path}:2: ")
    assert "--hsts is for a relay with TLS" in line
    write(here, '[serve]\ntls_cert = ["a.pem", "b.pem"]\nhsts = 60\nplain_http = true')
    assert told() == []


def test_certificates_have_to_be_there(here: Path) -> None:
    path = write(here, '[serve]\ntls_cert = ["missing.pem"]')
    (line,) = told()
    assert line.startswith(f"{path}:2: ")
    assert f"{here / 'missing.pem'} cannot be read" in line
