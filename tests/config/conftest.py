from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, beside an empty configuration directory of the user."""
    user = tmp_path / "user"
    directory = tmp_path / "here"
    for made in (user, directory):
        made.mkdir()
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _: user)
    monkeypatch.chdir(directory)
    return directory
