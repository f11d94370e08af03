from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.functions.support import alive, until
from tunnelkit import App, Retries
from tunnelkit.errors import (
    CallCancelledError,
    CallTimeoutError,
    FunctionTimeoutError,
    InvalidError,
    RemoteError,
    SerializationError,
)
from tunnelkit.functions.failure import RemoteTraceback

pytestmark = pytest.mark.keeps_descriptors  # processes are kept warm


def test_the_type_the_cause_and_the_place_of_an_exception_arrive(app: App) -> None:
    class OwnError(Exception):
        pass

    @app.function()
    def fail() -> None:
        raise OwnError("broken") from KeyError("x")

    with pytest.raises(OwnError, match="broken") as raised:
        fail.remote()
    cause = raised.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause)
    assert 'raise OwnError("broken")' in str(cause)
    assert "tunnelkit/functions" not in str(cause)


def test_an_exception_that_cannot_be_sent_still_says_what_it_was(app: App) -> None:
    @app.function()
    def fail() -> None:
        class StubbornError(Exception):
            def __init__(self, first: int, second: int) -> None:
                super().__init__(f"{first} and {second}")

        raise StubbornError(1, 2)

    with pytest.raises(RemoteError, match=r"StubbornError: 1 and 2"):
        fail.remote()


def test_leaving_the_interpreter_does_not_leave_the_programs(app: App) -> None:
    @app.function()
    def leave() -> None:
        sys.exit(3)

    with pytest.raises(RemoteError, match="SystemExit: 3"):
        leave.remote()


@pytest.mark.parametrize(
    ("how", "words"),
    [("os._exit(3)", "ended with status 3"), ("os.kill(os.getpid(), 11)", "was ended by SIGSEGV")],
)
def test_a_process_that_dies_is_an_error_with_its_last_lines(app: App, how: str, words: str) -> None:
    @app.function()
    def die() -> None:
        print("last words")
        exec(f"import os; {how}")

    with pytest.raises(RemoteError, match=words) as raised:
        die.remote()
    assert "last words" in str(raised.value.__cause__)


def test_a_timeout_ends_the_process_and_what_it_started(app: App, tmp_path: Path) -> None:
    noted = tmp_path / "pids"

    @app.function(timeout=1)
    def slow() -> None:
        sleeper = subprocess.Popen(["sleep", "60"])
        noted.write_text(f"{os.getpid()} {sleeper.pid}")
        while True:
            pass

    with pytest.raises(FunctionTimeoutError, match="longer than its 1 s") as raised:
        slow.remote()
    assert isinstance(raised.value, TimeoutError)
    for pid in map(int, noted.read_text().split()):
        until(lambda pid=pid: not alive(pid))


def test_get_waits_no_longer_than_asked_and_polls_with_zero(app: App, tmp_path: Path) -> None:
    go = tmp_path / "go"

    @app.function()
    def wait() -> str:
        while not go.exists():
            time.sleep(0.01)
        return "done"

    call = wait.spawn()
    with pytest.raises(CallTimeoutError):
        call.get(timeout=0)
    with pytest.raises(TimeoutError):
        call.get(timeout=0.05)
    go.touch()
    assert call.get(timeout=30) == "done"
    assert call.get(0) == "done"


def test_a_cancelled_call_ends_with_its_process(app: App, tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    @app.function()
    def wait() -> None:
        noted.with_suffix(".new").write_text(str(os.getpid()))
        noted.with_suffix(".new").rename(noted)
        signal.pause()

    call = wait.spawn()
    until(noted.exists)
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(30)
    until(lambda: not alive(int(noted.read_text())))
    call.cancel()


def test_a_call_is_cancelled_while_it_waits_for_a_place(app: App, tmp_path: Path) -> None:
    go = tmp_path / "go"

    @app.function(concurrency=1)
    def wait() -> int:
        while not go.exists():
            time.sleep(0.01)
        return os.getpid()

    first, second, third = wait.spawn(), wait.spawn(), wait.spawn()
    second.cancel()
    with pytest.raises(CallCancelledError):
        second.get(30)
    go.touch()
    assert first.get(30) == third.get(30)


def test_a_failed_call_is_tried_again_as_often_as_told(app: App, tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @app.function(retries=Retries(2, initial_delay=0))
    def flaky(enough: int) -> int:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < enough:
            raise OSError("not yet")
        return enough

    assert flaky.remote(3) == 3
    tries.unlink()
    with pytest.raises(OSError, match="not yet"):
        flaky.remote(4)
    assert len(tries.read_text()) == 3


def test_a_process_that_died_is_tried_again_too(app: App, tmp_path: Path) -> None:
    died = tmp_path / "died"

    @app.function(retries=Retries(1, initial_delay=0))
    def once() -> str:
        if not died.exists():
            died.touch()
            os._exit(1)
        return "alive"

    assert once.remote() == "alive"


def test_what_cannot_be_sent_is_named(app: App) -> None:
    @app.function()
    def nothing(value: object) -> None: ...

    @app.function()
    def unsendable() -> Any:
        return threading.Lock()

    with pytest.raises(SerializationError, match="An argument of nothing"):
        nothing.remote(threading.Lock())
    with pytest.raises(SerializationError, match="What unsendable returned"):
        unsendable.remote()


def test_a_function_that_cannot_be_sent_is_named_at_the_call(app: App) -> None:
    handle = sys._getframe()

    @app.function()
    def holds() -> object:
        return handle

    with pytest.raises(SerializationError, match="The function holds"):
        holds.spawn()


def test_a_module_that_is_not_there_is_the_calls_error(app: App) -> None:
    class Missing:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    missing = Missing()

    @app.function()
    def uses() -> object:
        return missing

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        uses.remote()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secrets": "name"}, r"Secret\.from_name\('name'\)"),
        ({"secrets": 5}, "Not a secret"),
        ({"secrets": [5]}, "Not a secret"),
        ({"timeout": 0}, "time-out"),
        ({"timeout": math.inf}, "time-out"),
        ({"retries": -1}, "retries"),
        ({"concurrency": 0}, "at once"),
        ({"schedule": 5}, "cron"),
        ({"block_network": True}, "block_network"),
        ({"secret": []}, "Did you mean secrets=?"),
    ],
)
def test_options_that_cannot_be_right_are_refused(app: App, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        app.function(**options)


def test_options_that_only_tune_elsewhere_are_taken_with_one_warning(app: App) -> None:
    with pytest.warns(UserWarning, match="cpu=, gpu=") as warned:
        app.function(cpu=2, gpu="any")(lambda: None)
    assert len(warned) == 1
