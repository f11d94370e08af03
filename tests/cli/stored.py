"""The commands around the store, within this process: quick, and without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli.support import COMMAND, PATIENCE
from tunnelkit.cli.root import cli
from tunnelkit.config.home import open_store
from tunnelkit.config.store import Kind, Ref
from tunnelkit.errors import from_code


@dataclass(frozen=True)
class Stored:
    """Runs commands on a store of its own."""

    home: Path
    """``TUNNELKIT_HOME``."""
    here: Path
    """The working directory."""

    def run(self, *arguments: str, stdin: str | bytes = b"") -> Result:
        """What came of ``tunnelkit arguments``."""
        return CliRunner().invoke(cli, arguments, input=stdin, catch_exceptions=False)

    def ok(self, *arguments: str, stdin: str | bytes = b"") -> str:
        """All it has written; it has to succeed."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.output

    def told(self, *arguments: str) -> Any:
        """What it prints as JSON, with nothing beside it."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return json.loads(result.stdout)

    def refuses(self, code: str, *arguments: str, stdin: str | bytes = b"") -> str:
        """The one line of the error with ``code``, after which the store is as it was."""
        before = self.contents()
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == from_code(code, "").exit_status, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.endswith(f"[{code}]\n")
        assert result.stderr.count("\n") == 1
        assert ". " in result.stderr, "it says what to do"
        assert self.contents() == before
        return result.stderr

    def process(
        self, *arguments: str, stdin: bytes | int = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """As :meth:`run`, in a process of its own."""
        given: dict[str, Any] = {"stdin": stdin} if isinstance(stdin, int) else {"input": stdin}
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, timeout=PATIENCE, check=False, env=env, **given
        )

    def values(self, name: str, environment: str = "main", kind: Kind = Kind.SECRET) -> dict[str, str]:
        """What is stored, as programs would get it."""
        with closing(open_store(self.home)) as store:
            return {key: it.reveal() for key, it in store.read(Ref(kind, name, environment)).items()}

    def contents(self) -> object:
        """Everything in the store that only a change changes."""
        if not (self.home / "store.db").exists():
            return {"main": []}
        with closing(open_store(self.home)) as store:
            return {
                place.name: [
                    (kind, entry.ref.name, entry.keys, entry.version)
                    for kind in Kind
                    for entry in store.entries(kind, place.name)
                ]
                for place in store.environments()
            }


def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """In an empty directory, with a store that does not exist yet, and none of the user's own settings."""
    here = tmp_path / "here"
    here.mkdir()
    for name in os.environ:
        if name.startswith("TUNNELKIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TUNNELKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(here)
    return Stored(tmp_path / "home", here)
