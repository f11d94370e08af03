"""A store of its own for each test, and a working directory without settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from tunnelkit.config import home as homes
from tunnelkit.config.keys import KeySettings
from tunnelkit.config.sqlite import SqliteStore


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``TUNNELKIT_HOME``: a directory that does not exist yet; no other variable of ours is set."""
    for name in [name for name in os.environ if name.startswith("TUNNELKIT_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "home"
    monkeypatch.setenv("TUNNELKIT_HOME", str(directory))
    yield directory
    homes.shared_store().close()
    homes._shared.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "home", KeySettings())
    yield store
    store.close()


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
