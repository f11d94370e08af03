"""``tunnelkit completion``, in the shells themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import Stored
from tests.cli.support import PATIENCE
from tests.support import program

CASES = [
    ("sec", "secret"),
    ("secret ro", "rollback rotate-key"),
    ("secret info ", "database web"),
    ("secret info w", "web"),
    ("secret info -e prod ", "live"),
    ("secret info --env prod l", "live"),
    ("secret delete d", "database"),
    ("secret run --secret ", "database web"),
    ("secret list --env ", "main prod"),
    ("secret list -e p", "prod"),
    ("secret create --fr", "--from-dotenv --from-json"),
    ("secret rotate-key --to ", "generated keyring passphrase"),
    ("proxy info ", "partner"),
    ("proxy delete -e prod ", ""),
    ("environment delete ", "main prod"),
    ("http 80 --zone ", "asia europe"),
    ("tcp 80 --zone e", "europe"),
    ("completion ", "bash fish zsh"),
]


@pytest.fixture
def filled(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """With names to complete, and ``tunnelkit`` as a program in PATH."""
    stored.ok("environment", "create", "prod")
    stored.ok("secret", "create", "database", "A=1")
    stored.ok("secret", "create", "web", "A=1")
    stored.ok("secret", "create", "live", "A=1", "-e", "prod")
    stored.ok("proxy", "create", "partner", "--ip", "127.0.0.1")
    zones = "".join(f'[zones.{name}]\nrelay = "wss://{name}"\n' for name in ("europe", "asia"))
    (stored.here / "tunnelkit.toml").write_text(zones)
    command = tmp_path / "bin" / "tunnelkit"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tunnelkit "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    return stored


def run(shell: str, *arguments: str, script: str) -> str:
    """What ``script`` prints, read from standard input."""
    done = subprocess.run(
        [program(shell), *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


BASH = """
compopt() { :; }   # which is for completion that a keyboard has asked for
words_for() {
    COMP_WORDS=(tunnelkit "$@") COMP_CWORD=$# COMPREPLY=()
    "$function" tunnelkit "${!#}" "${@: -2:1}"
    printf '%s\\n' "${COMPREPLY[@]}" | sort | xargs
}
set -- $(complete -p tunnelkit)
while [ "$1" != -F ]; do shift; done
function=$2
"""


@pytest.mark.needs("bash")
def test_bash_completes_commands_options_and_names(filled: Stored) -> None:
    lines = []
    for line, _ in CASES:
        words = line.split() + ([""] if line.endswith(" ") else [])
        lines.append("words_for " + " ".join(f"'{word}'" for word in words))
    script = "\n".join([filled.ok("completion", "bash"), BASH, *lines])
    found = run("bash", "--norc", script=script).splitlines()
    assert dict(zip([line for line, _ in CASES], found, strict=True)) == dict(CASES)


# In place of compinit: what the script would offer is printed.
ZSH = """
compdef() { :; }
_describe() { print -l -- ${(P)3}; }
compadd() { print -l -- ${(P)@[-1]}; }
words=(tunnelkit secret info ''); CURRENT=4
"""


@pytest.mark.needs("zsh")
def test_zsh_reads_its_script(filled: Stored) -> None:
    script = filled.ok("completion", "zsh")
    assert script.startswith("#compdef tunnelkit\n")
    run("zsh", "-n", script=script)
    said = run("zsh", "-f", script=f"{ZSH}{script}\n_tunnelkit_completion\n")
    assert {"database", "web"} <= set(said.split())


@pytest.mark.needs("fish")
def test_fish_completes_names(filled: Stored) -> None:
    script = filled.ok("completion", "fish")
    for line, expected in CASES:
        if not line.split()[-1].startswith("-"):
            said = run("fish", "--no-config", script=f'{script}\ncomplete -C "tunnelkit {line}"\n')
            assert sorted(it.split("\t")[0] for it in said.splitlines()) == expected.split()


def test_completion_asks_nothing_and_makes_no_store(stored: Stored) -> None:
    env = {"_TUNNELKIT_COMPLETE": "bash_complete", "COMP_WORDS": "tunnelkit secret info ", "COMP_CWORD": "3"}
    done = stored.process(env={**os.environ, **env})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")
    assert not stored.home.exists()


def test_a_store_that_cannot_be_read_has_no_names(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "A=1")
    stored.home.chmod(0o755)
    env = {"_TUNNELKIT_COMPLETE": "bash_complete", "COMP_WORDS": "tunnelkit secret info ", "COMP_CWORD": "3"}
    done = stored.process(env={**os.environ, **env})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")


def test_another_shell_is_an_error(stored: Stored) -> None:
    assert "'bash', 'zsh', 'fish'" in stored.refuses("usage", "completion", "tcsh")
