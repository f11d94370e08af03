"""Tasks with an owner: named, logged, ended together."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tunnelkit.net.tasks import Tasks


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_tasks_are_named_after_their_owner_and_counted() -> None:
    tasks = Tasks("relay")
    task = tasks.spawn(for_ever(), "clock")
    assert task.get_name() == "relay: clock"
    assert len(tasks) == 1
    await tasks.close()
    assert len(tasks) == 0
    assert task.cancelled()


async def test_a_failure_is_logged_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("no such thing")

    tasks = Tasks("relay")
    other = tasks.spawn(for_ever(), "other")
    failing = tasks.spawn(fail(), "tunnel 1")
    with caplog.at_level(logging.ERROR, "tunnelkit"):
        await asyncio.wait([failing])
    assert [record.getMessage() for record in caplog.records] == ["relay: tunnel 1 failed: no such thing"]
    assert not other.done()
    await tasks.close()


async def test_a_task_may_close_its_owner() -> None:
    tasks = Tasks("relay")
    other = tasks.spawn(for_ever(), "other")

    async def close() -> str:
        await tasks.close()
        return "closed"

    assert await tasks.spawn(close(), "closing") == "closed"
    assert other.cancelled()


async def test_closing_waits_until_each_has_cleaned_up_even_where_it_is_cancelled() -> None:
    cleaned = asyncio.Event()
    may_go_on = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await for_ever()
        finally:
            await may_go_on.wait()
            cleaned.set()

    tasks = Tasks("relay")
    tasks.spawn(slow_to_end(), "slow")
    await asyncio.sleep(0)
    closing = asyncio.create_task(tasks.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert cleaned.is_set()
    await tasks.close()  # safe to call again
