"""The commands of docs/howto/secrets.md, one after the other, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import Stored
from tests.cli.support import Terminal

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "secrets.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.needs("bash", "openssl")
def test_every_command_works(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_ = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(bin_), prepend=":")
    program(bin_ / "tunnelkit", f'exec {sys.executable} -m tunnelkit "$@"')
    program(bin_ / "psql", 'test "${#PASSWORD}" = 7')
    program(stored.here / "server", 'test "$TOKEN $NAME $*" = "t n --port 8000"')
    for name, text in {
        "password.txt": "hunter2\n",
        ".env": "export NAME='n'\n",
        "settings.json": '{"TOKEN": "t"}',
        "gateway.url": "socks5h://user:hunter2@gateway:1080\n",
    }.items():
        (stored.here / name).write_text(text)
    asked, *commands = re.findall(r"^\$ (.*)$", "".join(blocks("console")), re.MULTILINE)
    words = asked.partition("#")[0].split()
    with Terminal(stored.here, *words[1:]) as terminal:
        terminal.expect("Value of PASSWORD: $")
        terminal.type(b"hunter2\n")
        assert terminal.ended() == 0
    assert len(commands) > 20
    script = "set -e\n" + "\n".join(f"echo '$ {command}'; {command}" for command in commands)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    history = [it["version"] for it in stored.told("secret", "history", "database")]
    assert history == [3, 2, 1]
    assert stored.values("database") == {"HOST": "db.internal", "PASSWORD": "hunter2"}

    code = "".join(blocks("python")) + "\nassert values['PASSWORD'] == 'hunter2'\n"
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)
