"""What is wrong about secrets, proxies and environments: one line, a code, what to do, nothing changed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stored import Stored, empty_store
from tests.cli.support import COMMAND, PATIENCE
from tunnelkit.errors import MasterKeyError, StoreError

CANARY = "canary-90cd"
LONG = "a" * 65


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """With a secret and a proxy ``there``, and the files that the cases name: one for all, unchanged."""
    with pytest.MonkeyPatch.context() as patch:
        stored = empty_store(tmp_path_factory.mktemp("filled"), patch)
        _fill(stored)
        yield stored


def _fill(stored: Stored) -> None:
    stored.ok("secret", "create", "there", "KEY=value")
    stored.ok("proxy", "create", "there", "--ip", "127.0.0.1")
    Path("good.env").write_text("KEY=value\n")
    Path("bad.env").write_text(f"KEY=value\n\n{CANARY} without an end '\n")
    Path("key.env").write_text(f"KEY=value\nA-B={CANARY}\n")
    Path("bad.json").write_text(f'{{"KEY": "{CANARY}",\n  {CANARY}}}')
    Path("list.json").write_text(f'["{CANARY}"]')
    Path("number.json").write_text('{"KEY": 1}')
    Path("twice.json").write_text(f'{{"KEY": "{CANARY}", "KEY": "b"}}')
    Path("latin1.env").write_bytes(b"KEY=gr\xfc\xdfe\n")
    Path("empty.env").write_text("# nothing\n")


CREATE = ["secret", "create", "new"]
NAMES = ["", "a b", "a/b", "grün", LONG, "a\n"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        # names
        *((["secret", "create", name, "KEY=value"], "invalid_name", "") for name in NAMES),
        *((["proxy", "create", name, "--ip", "::1"], "invalid_name", "") for name in NAMES),
        *((["environment", "create", name], "invalid_name", "") for name in NAMES),
        (["secret", "info", "a b"], "invalid_name", "1 to 64 letters"),
        (["secret", "create", f"KEY={CANARY}"], "usage", "The secret's name comes first"),
        (["secret", "run", "--secret", f"KEY={CANARY}", "true"], "usage", ""),
        # variables
        ([*CREATE], "usage", "no variables"),
        ([*CREATE, f"1A={CANARY}"], "invalid", "'1' as its character 1"),
        ([*CREATE, f"A-B={CANARY}"], "invalid", "'-' as its character 2"),
        ([*CREATE, f"={CANARY}"], "invalid", "no name"),
        ([*CREATE, "KEY="], "usage", "nothing after its '='"),
        ([*CREATE, "KEY", CANARY], "usage", "Argument 1 after the name has no '='"),
        ([*CREATE, "A=1", CANARY], "usage", "Argument 2"),
        ([*CREATE, "A=1", f"A={CANARY}"], "usage", "twice"),
        ([*CREATE, "A=-", "B=-"], "usage", "asked for twice"),
        ([*CREATE, "A=-", "--from-dotenv", "-"], "usage", "asked for twice"),
        ([*CREATE, "--from-json", "-", "--from-dotenv", "-"], "usage", "asked for twice"),
        ([*CREATE, "A=-"], "invalid", "no value for A"),
        ([*CREATE, f"--KEY={CANARY}"], "usage", "No such option"),
        # files
        ([*CREATE, "--from-dotenv", "missing.env"], "not_found", "no file missing.env"),
        ([*CREATE, "--from-dotenv", "."], "invalid", "directory"),
        ([*CREATE, "--from-dotenv", "bad.env"], "invalid", "bad.env, line 3"),
        ([*CREATE, "--from-dotenv", "key.env"], "invalid", "key.env, line 2"),
        ([*CREATE, "--from-dotenv", "latin1.env"], "invalid", "UTF-8"),
        ([*CREATE, "--from-dotenv", "empty.env"], "usage", "no variables"),
        ([*CREATE, "--from-json", "missing.json"], "not_found", "no file missing.json"),
        ([*CREATE, "--from-json", "bad.json"], "invalid", "bad.json, line 2, column 3"),
        ([*CREATE, "--from-json", "list.json"], "invalid", "not a JSON object"),
        ([*CREATE, "--from-json", "number.json"], "invalid", "KEY is a str, not int"),
        ([*CREATE, "--from-json", "twice.json"], "invalid", "KEY is there twice"),
        ([*CREATE, "--from-json", "-"], "invalid", "Standard input, line 1, column 1"),
        # what is there and what is not
        (["secret", "create", "there", f"KEY={CANARY}"], "already_exists", "--force"),
        (["secret", "info", "thre"], "not_found", "Is it 'there'?"),
        (["secret", "info", "there", "-e", "prod"], "not_found", "tunnelkit environment create prod"),
        (["secret", "list", "-e", "mian"], "not_found", "Is it 'main'?"),
        (["secret", "list", "-e", "a b"], "invalid_name", ""),
        ([*CREATE, f"KEY={CANARY}", "-e", "prod"], "not_found", "prod"),
        (["secret", "update", "gone", f"KEY={CANARY}"], "not_found", "secret create gone"),
        (["secret", "update", "there"], "usage", "no variables"),
        (["secret", "update", "there", "--unset", "OTHER"], "not_found", "OTHER"),
        (["secret", "update", "there", "--unset", "A-B"], "invalid", ""),
        (["secret", "update", "there", f"KEY={CANARY}", "--unset", "KEY"], "usage", "at once: KEY"),
        (["secret", "history", "gone"], "not_found", ""),
        (["secret", "rollback", "there", "7"], "not_found", "secret history"),
        (["secret", "rollback", "there", "0"], "usage", "VERSION"),
        (["secret", "delete", "gone", "--yes"], "not_found", ""),
        (["secret", "delete", "there"], "usage", "--yes"),
        (["secret", "audit", "--limit", "0"], "usage", "--limit"),
        (["secret", "rotate-key", "--to", "paper"], "usage", "'generated', 'keyring', 'passphrase'"),
        (["secret", "run", "--secret", "gone", "true"], "not_found", "gone"),
        (["secret", "run", "--secret", "there"], "usage", "COMMAND"),
        (["secret", "run", "true"], "usage", "--secret"),
        # proxies
        (["proxy", "create", "new"], "usage", "either addresses or a gateway"),
        (["proxy", "create", "new", "--ip", "::1", "--gateway", "http://a"], "usage", "either"),
        (["proxy", "create", "new", "--ip", "203.0.113.7"], "invalid", "does not have the address"),
        (["proxy", "create", "new", "--ip", "2001:db8::7"], "invalid", "does not have the address"),
        (["proxy", "create", "new", "--ip", "localhost"], "invalid", "not an IP address"),
        (["proxy", "create", "new", "--ip", "0.0.0.0"], "invalid", "no machine"),
        (["proxy", "create", "new", "--ip", "::1", "--ip", "0::1"], "invalid", "twice"),
        (["proxy", "create", "new", "--gateway", f"ftp://a:{CANARY}@b"], "invalid", "socks5h://"),
        (["proxy", "create", "new", "--gateway", f"http://a:{CANARY}@b/c"], "invalid", "has a path"),
        (["proxy", "create", "new", "--gateway", f"http://a:{CANARY}@b:c"], "invalid", ""),
        (["proxy", "create", "new", "--gateway", ""], "invalid", ""),
        (["proxy", "create", "new", "--gateway", "-"], "invalid", "Standard input has no URL"),
        (["proxy", "create", "there", "--ip", "::1"], "already_exists", "--force"),
        (["proxy", "info", "gone"], "not_found", "proxy create gone"),
        (["proxy", "delete", "gone", "--yes"], "not_found", ""),
        (["proxy", "delete", "there"], "usage", "--yes"),
        (["proxy", "list", "-e", "prod"], "not_found", "environment create prod"),
        # environments
        (["environment", "create", "main"], "already_exists", ""),
        (["environment", "delete", "main", "--yes"], "invalid", "always there"),
        (["environment", "delete", "prod", "--yes"], "not_found", "prod"),
        (["environment", "delete", "main"], "usage", "--yes"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_mistakes(filled: Stored, arguments: list[str], code: str, words: str) -> None:
    line = filled.refuses(code, *arguments)
    assert words in line
    assert CANARY not in line


def test_force_does_not_help_a_mistake(filled: Stored) -> None:
    filled.refuses("invalid", "secret", "create", "there", "--from-json", "bad.json", "--force")
    filled.refuses("invalid", "proxy", "create", "there", "--ip", "203.0.113.7", "--force")
    assert filled.values("there") == {"KEY": "value"}


def test_an_environment_variable_that_names_no_environment(
    filled: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNELKIT_ENVIRONMENT", "a b")
    result = filled.run("secret", "list")
    assert result.exit_code == 9
    assert "(from TUNNELKIT_ENVIRONMENT)" in result.stderr


def test_a_store_that_others_can_read(filled: Stored) -> None:
    filled.home.chmod(0o755)
    try:
        result = filled.run("secret", "list")
    finally:
        filled.home.chmod(0o700)
    assert (result.exit_code, result.stderr.count("\n")) == (StoreError.exit_status, 1)
    assert f"chmod 700 {filled.home}" in result.stderr


@pytest.mark.parametrize("variable", ["TUNNELKIT_MASTER_KEY", "TUNNELKIT_MASTER_KEY_FILE"])
@pytest.mark.parametrize("value", ["", CANARY])
def test_a_key_that_is_none(
    filled: Stored, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.contents()
    monkeypatch.setenv(variable, value)
    result = filled.run("secret", "create", "new", "KEY=value")
    assert (result.exit_code, result.stderr.count("\n")) == (MasterKeyError.exit_status, 1)
    assert variable.endswith("FILE") or CANARY not in result.stderr
    monkeypatch.delenv(variable)
    assert filled.contents() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["secret", "create", "s", "KEY=-"],
        ["secret", "create", "s", "--from-dotenv", "-"],
        ["secret", "create", "s", "--from-json", "-"],
        ["proxy", "create", "p", "--gateway", "-"],
        ["secret", "delete", "s"],
    ],
    ids=" ".join,
)
def test_a_standard_input_that_is_closed_has_nothing(stored: Stored, arguments: list[str]) -> None:
    shell = ["sh", "-c", f"exec {shlex.join([*COMMAND, *arguments])} <&-"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")


def test_a_full_disk_behind_standard_output_is_one_line(filled: Stored) -> None:
    for arguments in (["list"], ["list", "--json"]):
        with Path("/dev/full").open("w") as full:
            command = [*COMMAND, "secret", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == "error: Standard output takes no more: No space left on device [error]\n"


def test_a_reader_that_has_gone_is_none(filled: Stored) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, "secret", "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
