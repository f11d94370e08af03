from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions.support import Variables, alive, until
from tunnelkit import App, FunctionCall, gather
from tunnelkit.errors import (
    InvalidError,
    NotFoundError,
)

pytestmark = pytest.mark.keeps_descriptors  # processes are kept warm


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


def test_a_call_that_nobody_knows_any_more_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        pickle.loads(pickle.dumps(FunctionCall(_Unknown())))  # type: ignore[arg-type]


class _Unknown:
    number = 1
