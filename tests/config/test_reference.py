"""docs/reference/settings.md says what the settings' types say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tunnelkit.config.check import check

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "settings-reference"
PAGE = Path("docs", "reference", "settings.md")


def run(script: Path, *arguments: str) -> int:
    return subprocess.run([sys.executable, script, *arguments], check=False).returncode


def test_the_page_is_up_to_date() -> None:
    assert run(SCRIPT, "--check") == 0, "Run .venv/bin/python scripts/settings-reference"


def test_a_page_that_is_not_is_found_and_written(tmp_path: Path) -> None:
    script, page = tmp_path / "scripts" / SCRIPT.name, tmp_path / PAGE
    for path in (script, page):
        path.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    page.write_text((ROOT / PAGE).read_text().replace("`300`", "`301`"))
    assert run(script, "--check") == 1
    assert run(script) == 0
    assert page.read_bytes() == (ROOT / PAGE).read_bytes()
    assert run(script, "--check") == 0


def test_the_example_has_no_mistake(here: Path) -> None:
    found = re.search(r"^```toml\n(.*?)^```", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    (here / "tunnelkit.toml").write_text(found[1])
    for name in ("relay.token", "agents.tokens", "eu.token"):
        assert name in found[1]
        (here / name).write_text("token")
    assert check(environ={}) == []
