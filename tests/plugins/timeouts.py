"""The time limit of a test ends it whatever the event loop is doing.

pytest-timeout raises from a signal handler, but an event loop logs what is raised inside a callback
and goes on, and uvloop runs every signal handler that way. So a running loop is stopped, which
fails the test; what blocks the loop too hard for that gets the exception soon after.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Generator
from types import FrameType

import pytest

AGAIN = 0.5  # of the limit: from stopping the loop to raising, and then between two attempts

Handler = Callable[[int, FrameType | None], object]


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    done = yield
    raise_failure = signal.getsignal(signal.SIGALRM)
    if callable(raise_failure):
        signal.signal(signal.SIGALRM, TimeLimit(raise_failure))
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        signal.setitimer(signal.ITIMER_REAL, left, left * AGAIN)
    return done


class TimeLimit:
    """What happens at the limit, and at every further alarm until the test has ended."""

    def __init__(self, raise_failure: Handler) -> None:
        self._raise_failure = raise_failure
        self._over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        first, self._over = not self._over, True
        loop = _running_loop()
        if loop is None:
            if first:  # later on, pytest is busy with the failure
                self._raise_failure(number, frame)
            return
        loop.call_soon_threadsafe(loop.stop)  # a loop that waits for its descriptors is woken
        if not first:
            self._raise_failure(number, frame)
        print("The time limit of this test is over. Its tasks:", file=sys.stderr)
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=sys.stderr)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
