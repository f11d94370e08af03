from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import program
from tests.support.programs import packages

INSTALLER = Path(__file__).parents[2] / "scripts" / "system-packages"


def run_installer(script: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", script], env=env, capture_output=True, text=True, check=True)


def test_a_program_that_is_not_there_has_no_path() -> None:
    with pytest.raises(LookupError, match="needs"):
        program("no-such-program")


def test_the_installer_names_what_is_missing_and_never_fails(tmp_path: Path) -> None:
    """With nothing on its path but a user who is not root."""
    for name, body in {"id": "echo 1000", "dirname": f"echo {INSTALLER.parent}"}.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)
    isolated = tmp_path / "system-packages"
    text = INSTALLER.read_text()
    isolated.write_text(text.replace(":/usr/local/sbin:/usr/sbin:/sbin", ""))
    result = run_installer(isolated, env={"PATH": str(tmp_path)})
    assert result.stdout == ""
    assert result.stderr.split("apt-get install ")[1].split() == list(packages().values())


@pytest.mark.needs(*packages())
def test_the_installer_is_silent_where_nothing_is_missing() -> None:
    result = run_installer(INSTALLER)
    assert result.stdout + result.stderr == ""
