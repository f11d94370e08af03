from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunnelkit.config.environment import environment
from tunnelkit.config.home import data_directory, open_store, shared_store
from tunnelkit.config.store import Kind
from tunnelkit.errors import InvalidNameError, StoreError


def test_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data_directory({"TUNNELKIT_HOME": "/x/y"}) == Path("/x/y")
    monkeypatch.chdir(tmp_path)
    assert data_directory({"TUNNELKIT_HOME": "y"}) == tmp_path / "y"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory({"TUNNELKIT_HOME": "~/y"}) == tmp_path / "y"
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert tmp_path in data_directory({}).parents
    assert data_directory({"TUNNELKIT_HOME": ""}) == data_directory({})


def test_a_user_without_a_home() -> None:
    """As in a container that runs as a number."""
    program = (
        "import os; os.environ.pop('HOME', None); os.environ.pop('XDG_DATA_HOME', None)\n"
        "import pwd\n"
        "def none(*_): raise KeyError\n"
        "pwd.getpwuid = none\n"
        "from tunnelkit.config import home, audit\n"
        "print(audit.actor())\n"
        "home.data_directory({})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == f"uid {os.geteuid()}\n"
    assert "This user has no home directory for a store. Name a directory with TUNNELKIT_HOME" in done.stderr


def test_one_store_for_a_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shared_store()
    assert shared_store() is first
    assert not home.exists()  # nothing is opened before it is used
    monkeypatch.setenv("TUNNELKIT_HOME", str(home.with_name("other")))
    assert shared_store() is not first


def test_a_store_by_its_directory(tmp_path: Path) -> None:
    store = open_store(tmp_path / "x", environ={})
    assert store.entries(Kind.SECRET, "main") == []
    store.close()
    assert (tmp_path / "x" / "store.db").exists()
    with pytest.raises(StoreError):
        open_store(tmp_path / "x", environ={"TUNNELKIT_MASTERKEY": ""})


def test_the_environment() -> None:
    environ = {"TUNNELKIT_ENVIRONMENT": "prod"}
    assert environment(environ={}) == "main"
    assert environment(environ={"TUNNELKIT_ENVIRONMENT": ""}) == "main"
    assert environment(environ=environ) == "prod"
    assert environment("dev", environ=environ) == "dev"
    with pytest.raises(InvalidNameError, match="environment"):
        environment("", environ=environ)
    with pytest.raises(InvalidNameError, match="TUNNELKIT_ENVIRONMENT"):
        environment(environ={"TUNNELKIT_ENVIRONMENT": "a b"})
