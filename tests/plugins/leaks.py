"""A test that leaves a task or a descriptor behind fails.

Tasks are looked at when the test and its asynchronous fixtures have ended, descriptors when the
event loop is closed too. What has to outlive one test (an engine process that serves the whole
program, say) is marked ``@pytest.mark.keeps_descriptors``.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from pytest_asyncio import is_async_test

DESCRIPTORS = Path("/proc/self/fd")  # Linux only; elsewhere descriptors are not looked at

SETTLE = 0.5  # seconds for tasks that a library ends just after its close() has returned

FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "keeps_descriptors: descriptors opened here outlive the test, by design"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have tasks looked at by the first asynchronous fixture, which is the last to end."""
    if is_async_test(item) and "_no_tasks_left" not in item.fixturenames:
        after = item.fixturenames.index("_no_descriptors_left") + 1
        item.fixturenames.insert(after, "_no_tasks_left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or not report.passed
    return report


@pytest.fixture(scope="session", autouse=True)
def _descriptors_of_the_process() -> None:
    """Open what the first event loop of each kind opens once for the process."""
    asyncio.new_event_loop().close()
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def _no_descriptors_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if not is_async_test(request.node):
        yield
        return
    before = open_descriptors()
    yield
    # A failed test is in the hands of its traceback, and so are the sockets it had.
    if request.node.stash.get(FAILED, False) or request.node.get_closest_marker("keeps_descriptors"):
        return
    left = open_descriptors() - before
    if left:
        gc.collect()
        left = open_descriptors() - before
    if left:
        pytest.fail("descriptors left open: " + ", ".join(sorted(left)), pytrace=False)


@pytest.fixture
async def _no_tasks_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if not left or request.node.stash.get(FAILED, False):
        return
    _, left = await asyncio.wait(left, timeout=SETTLE)
    if left:
        pytest.fail("tasks left running: " + ", ".join(sorted(map(repr, left))), pytrace=False)


def open_descriptors() -> set[str]:
    """Every open descriptor as ``number target``; empty where the system does not tell."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found
