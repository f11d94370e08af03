"""Who an agent says it is: the same after a restart, another one elsewhere."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnelkit.agent.identity import agent_id


def fails(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_it_is_stable_and_says_nothing_about_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    assert agent_id() == agent_id()
    assert len(agent_id()) == 32
    assert "alice" not in agent_id()


@pytest.mark.parametrize(("module", "name"), [(getpass, "getuser"), (platform, "node")])
def test_users_and_hosts_differ(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    monkeypatch.setattr(module, name, lambda: "one")
    one = agent_id()
    monkeypatch.setattr(module, name, lambda: "two")
    assert agent_id() != one


@pytest.mark.parametrize("error", [OSError(), UnicodeError()])
def test_a_machine_without_an_id_is_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(Path, "read_text", fails(error))
    assert agent_id() == agent_id()


@pytest.mark.parametrize("error", [KeyError(), OSError()])
def test_a_user_without_a_name_is_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(getpass, "getuser", fails(error))
    assert agent_id() == agent_id()
