"""Every asynchronous test runs twice: on asyncio's own event loop and on uvloop.

A test that is about one of them asks for it: ``@pytest.mark.asyncio(loop_factories=["uvloop"])``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import pytest

LOOPS = 1 if find_spec("uvloop") is None else 2  # how many of the two are there


def new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": new_uvloop}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("uvloop") is not None:
        return
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and new_uvloop in callspec.params.values():
            item.add_marker(pytest.mark.skip(reason="uvloop is not installed"))
