from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functions.support import Variables, alive, until
from tunnelkit import App
from tunnelkit.errors import (
    InvalidError,
)

pytestmark = pytest.mark.keeps_descriptors  # processes are kept warm


def test_a_call_runs_in_another_process_that_stays_warm(app: App) -> None:
    @app.function()
    def where(number: int, *, more: int = 0) -> tuple[int, int]:
        return os.getpid(), number + more

    first, second = where.remote(1), where.remote(1, more=2)
    assert first == (second[0], 1)
    assert second[1] == 3
    assert first[0] != os.getpid()
    assert where.local(1) == (os.getpid(), 1)


def test_the_environment_is_made_of_the_secrets_and_what_a_program_needs(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODYS_SECRET", "parent")
    monkeypatch.setenv("TUNNELKIT_TOKEN", "token")

    @app.function(secrets=[Variables(A="1", B="1"), Variables(B="2", EMPTY="")])
    def mine() -> dict[str, str]:
        return dict(os.environ)

    @app.function()
    def sibling() -> dict[str, str]:
        return dict(os.environ)

    variables = mine.remote()
    assert variables["A"] == "1"
    assert variables["B"] == "2"
    assert variables["EMPTY"] == ""
    assert variables["PATH"] == os.environ["PATH"]
    others = sibling.remote()
    assert {"A", "B", "SOMEBODYS_SECRET", "TUNNELKIT_TOKEN"}.isdisjoint(others)
    assert set(variables) - set(others) == {"A", "B", "EMPTY"}
    assert "SOMEBODYS_SECRET" not in variables


def test_secrets_are_not_in_the_environment_that_other_processes_see(app: App) -> None:
    @app.function(secrets=Variables(KEY="canary-4711"))
    def own() -> tuple[str, bytes, bytes]:
        initial = Path("/proc/self/environ").read_bytes()
        return os.environ["KEY"], initial, Path("/proc/self/cmdline").read_bytes()

    value, initial, command = own.remote()
    assert value == "canary-4711"
    assert b"canary" not in initial + command


def test_a_changed_secret_starts_a_fresh_process(app: App) -> None:
    secret = Variables(KEY="old")

    @app.function(secrets=secret)
    def read() -> tuple[int, str]:
        return os.getpid(), os.environ["KEY"]

    before = read.remote()
    secret.variables["KEY"] = "new"
    after = read.remote()
    assert (before[1], after[1]) == ("old", "new")
    until(lambda: not alive(before[0]))


def test_concurrency_limits_the_calls_at_once(app: App, tmp_path: Path) -> None:
    @app.function(concurrency=2)
    def alone(number: int) -> int:
        mine = tmp_path / str(number)
        mine.touch()
        time.sleep(0.02)
        at_once = len(list(tmp_path.iterdir()))
        mine.unlink()
        return at_once

    assert max(alone.map(range(12))) <= 2


def test_large_arguments_and_results_pass(app: App) -> None:
    @app.function()
    def turn(data: bytes) -> bytes:
        return data[::-1]

    data = os.urandom(1 << 20) * 20
    assert turn.remote(data) == data[::-1]


def test_a_function_is_not_called_by_itself_nor_locally_elsewhere(app: App) -> None:
    @app.function()
    def plain() -> None: ...

    @app.function()
    def other() -> None:
        plain.local()

    with pytest.raises(InvalidError, match="called directly"):
        plain()
    with pytest.raises(InvalidError, match=r"plain\.remote"):
        other.remote()


def test_output_comes_line_by_line_with_its_functions_name(
    app: App, capfd: pytest.CaptureFixture[str]
) -> None:
    @app.function()
    def talk() -> None:
        print("one\ntwo")
        print("three", end="", file=sys.stderr)
        subprocess.run(["echo", "four"], check=True)

    talk.remote()
    out, err = capfd.readouterr()
    assert out.splitlines() == ["talk | one", "talk | two", "talk | four"]
    until(lambda: "talk | three" in err + capfd.readouterr().err or not err)
