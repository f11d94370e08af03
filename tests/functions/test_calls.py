from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tunnelkit import App, FunctionCall, Retries, gather
from tunnelkit.errors import (
    CallCancelledError,
    CallTimeoutError,
    FunctionTimeoutError,
    InvalidError,
    NotFoundError,
    RemoteError,
    SerializationError,
)
from tunnelkit.functions.failure import RemoteTraceback

pytestmark = pytest.mark.keeps_descriptors  # processes are kept warm


class Variables:
    """A secret that says what it is."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def environ(self) -> dict[str, str]:
        return dict(self.variables)

    def __reduce__(self) -> str:
        raise AssertionError("A secret was pickled")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(happened: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


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


def test_a_function_calls_others_which_have_their_own_secrets(app: App) -> None:
    @app.function(secrets=Variables(INNER="i"))
    def inner(number: int) -> tuple[int, str | None, str | None]:
        return number, os.environ.get("INNER"), os.environ.get("OUTER")

    @app.function(secrets=Variables(OUTER="o"))
    def outer() -> Any:
        calls = [inner.spawn(number) for number in range(3)]
        return [call.get() for call in calls], inner.remote(9), os.environ.get("INNER")

    assert outer.remote() == ([(0, "i", None), (1, "i", None), (2, "i", None)], (9, "i", None), None)


def test_what_fails_in_a_nested_call_is_raised_there_and_here(app: App) -> None:
    @app.function()
    def inner() -> None:
        raise ZeroDivisionError("inner")

    @app.function()
    def outer() -> str:
        try:
            inner.remote()
        except ZeroDivisionError as error:
            return str(error)
        return ""

    @app.function()
    def passes_on() -> None:
        inner.remote()

    assert outer.remote() == "inner"
    with pytest.raises(ZeroDivisionError):
        passes_on.remote()


def test_a_waiting_call_lends_its_place_so_limits_never_deadlock(app: App) -> None:
    @app.function(concurrency=1)
    def deep(levels: int) -> int:
        return 0 if levels == 0 else 1 + deep.remote(levels - 1)

    assert deep.remote(5) == 5


def test_calls_that_a_call_waits_for_end_with_it(app: App, tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    @app.function()
    def inner() -> None:
        noted.with_suffix(".new").write_text(str(os.getpid()))
        noted.with_suffix(".new").rename(noted)
        signal.pause()

    @app.function()
    def outer() -> None:
        inner.remote()

    call = outer.spawn()
    until(noted.exists)
    call.cancel()
    until(lambda: not alive(int(noted.read_text())))


def test_a_call_goes_through_other_functions_as_a_value(app: App) -> None:
    @app.function()
    def work() -> str:
        return "worked"

    @app.function()
    def begin() -> FunctionCall[str]:
        return work.spawn()

    @app.function()
    def finish(call: FunctionCall[str]) -> str:
        return call.get()

    call = begin.remote()
    assert call.get() == "worked"
    assert finish.remote(call) == "worked"


def test_map_keeps_the_order_and_reads_ahead_by_a_bounded_number(app: App) -> None:
    @app.function()
    def add(one: int, other: int) -> int:
        return one + other

    read = []

    def inputs() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = add.map(inputs(), [1] * 1000)
    assert next(results) == 1
    assert len(read) < 200
    assert list(results) == list(range(2, 1001))
    assert list(add.starmap([(1, 2), (3, 4)])) == [3, 7]
    assert list(add.map([1], kwargs={"other": 5})) == [6]


def test_map_raises_or_keeps_errors(app: App) -> None:
    @app.function()
    def invert(number: int) -> float:
        return 1 / number

    kept = list(invert.map([1, 0, 2], return_exceptions=True))
    assert kept[0] == 1
    assert isinstance(kept[1], ZeroDivisionError)
    assert kept[2] == 0.5
    with pytest.raises(ZeroDivisionError):
        list(invert.map([1, 0, 2]))


def test_generators_stream_and_end_early(app: App, tmp_path: Path) -> None:
    closed = tmp_path / "closed"

    @app.function()
    def count(most: int) -> Iterator[int]:
        try:
            yield from range(most)
        finally:
            closed.touch()

    assert list(count.remote(100)) == list(range(100))
    closed.unlink()
    for number in count.remote_gen(10**12):
        if number == 50:
            break
    until(closed.exists)


def test_a_generator_that_nobody_reads_waits(app: App, tmp_path: Path) -> None:
    noted = tmp_path / "noted"

    @app.function()
    def count() -> Iterator[int]:
        for number in range(100):
            noted.write_text(str(number))
            yield number

    items = count.remote()
    assert next(items) == 0
    until(lambda: int(noted.read_text() or 0) >= 10)
    assert int(noted.read_text()) < 50
    assert list(items) == list(range(1, 100))


def test_an_error_in_a_generator_comes_after_its_items(app: App) -> None:
    @app.function()
    def fail() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    items = fail.remote()
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)


async def test_the_forms_for_coroutines(app: App) -> None:
    @app.function()
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    @app.function()
    async def doubles(most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield await double.remote.aio(number)

    assert await double.remote.aio(4) == 8
    call = await double.spawn.aio(5)
    assert await call.get.aio() == 10
    assert [item async for item in doubles.remote.aio(5)] == [0, 2, 4, 6, 8]
    assert [item async for item in double.map.aio(range(3))] == [0, 2, 4]


async def test_blocking_forms_in_an_event_loop_name_the_others(app: App) -> None:
    @app.function()
    def nothing() -> None: ...

    for blocking in (nothing.remote, nothing.spawn().get, lambda: next(nothing.map([]))):
        with pytest.raises(InvalidError, match=r"await .*\.aio"):
            blocking()


async def test_cancelling_a_coroutine_ends_its_call(app: App, tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    @app.function()
    def wait() -> None:
        noted.with_suffix(".new").write_text(str(os.getpid()))
        noted.with_suffix(".new").rename(noted)
        signal.pause()

    task = asyncio.ensure_future(wait.remote.aio())
    while not noted.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(until, lambda: not alive(int(noted.read_text())))


def test_gather_has_the_results_in_order(app: App) -> None:
    @app.function()
    def square(number: int) -> int:
        return number * number

    assert gather(*(square.spawn(number) for number in range(5))) == [0, 1, 4, 9, 16]


def test_large_arguments_and_results_pass(app: App) -> None:
    @app.function()
    def turn(data: bytes) -> bytes:
        return data[::-1]

    data = os.urandom(1 << 20) * 20
    assert turn.remote(data) == data[::-1]


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


def test_a_fork_of_the_program_has_an_engine_of_its_own(app: App) -> None:
    @app.function()
    def where() -> int:
        return os.getppid()

    assert where.remote() == os.getpid()
    child = os.fork()
    if child == 0:
        from tunnelkit.functions.engine import close

        fine = where.remote() == os.getpid()
        close()
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def script(text: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_a_script_calls_at_its_top_level_without_a_guard(tmp_path: Path) -> None:
    text = """
        import tunnelkit as modal
        app = modal.App("pipeline")
        FACTOR = 3
        class Point:
            def __init__(self, x): self.x = x
        def helper(x): return Point(x * FACTOR)
        def make(app, name):
            @app.function()
            def pipeline(x): return name, helper(x)
            return pipeline
        one, other = make(app, "one"), make(app, "other")
        @app.function()
        def both(): return [f.remote(n)[0] for n, f in enumerate((one, other))]
        name, point = one.remote(5)
        print(name, isinstance(point, Point), point.x, both.remote())
        """
    with script(text, tmp_path) as (_process, output):
        assert output.read() == "one True 15 ['one', 'other']\n"


def test_processes_end_with_the_program_also_when_it_is_killed(tmp_path: Path) -> None:
    text = """
        import os, signal, subprocess, sys, tunnelkit
        app = tunnelkit.App()
        @app.function()
        def wait():
            sleeper = subprocess.Popen(["sleep", "600"])
            print(os.getpid(), sleeper.pid, flush=True)
            while True: pass
        wait.remote()
        """
    with script(text, tmp_path) as (process, output):
        pids = [int(word) for word in output.readline().split(" | ")[1].split()]
        process.kill()
        process.wait(10)
        for pid in pids:
            until(lambda pid=pid: not alive(pid))


def test_ctrl_c_ends_the_program_and_its_processes(tmp_path: Path) -> None:
    text = """
        import os, signal, tunnelkit
        app = tunnelkit.App()
        @app.function()
        def wait():
            print(os.getpid(), flush=True)
            signal.pause()
        wait.remote()
        """
    with script(text, tmp_path) as (process, output):
        pid = int(output.readline().split(" | ")[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
        until(lambda: not alive(pid))


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


def test_a_call_that_nobody_knows_any_more_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        pickle.loads(pickle.dumps(FunctionCall(_Unknown())))  # type: ignore[arg-type]


class _Unknown:
    number = 1
