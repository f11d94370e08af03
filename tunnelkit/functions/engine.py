"""What makes the calls of this process: the local engine in a thread, or the way to the program."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, Protocol

from tunnelkit.errors import CallTimeoutError, InvalidError, NotFoundError
from tunnelkit.functions import child
from tunnelkit.functions.job import Job
from tunnelkit.functions.messages import Kind, Outcome
from tunnelkit.functions.scheduler import Scheduler
from tunnelkit.functions.spec import Spec
from tunnelkit.functions.warm import Start, start_here

__all__ = ["Engine", "Pending", "chosen", "close", "engine", "known", "known_keys", "observe", "register"]

END_TIME = 5.0
"""Seconds for the processes to be gone at the program's end."""


class Pending(Protocol):
    """One call, as whoever made it has it."""

    number: int

    def wait(self, timeout: float | None) -> Outcome:
        """The outcome, waited for. Raises CallTimeoutError."""

    async def wait_async(self, timeout: float | None) -> Outcome:
        """The same for coroutines; being cancelled leaves the call as it is."""

    def next_item(self) -> bytes | None:
        """The next item of a generator, waited for; None at its end, whose outcome :meth:`wait` has."""

    def close(self) -> None:
        """The rest of a generator is not wanted."""

    def cancel(self) -> None:
        """End the call."""


class Engine(Protocol):
    """Where calls run."""

    def submit(self, spec: Spec, arguments: bytes) -> Pending: ...

    def find(self, number: int) -> Pending:
        """A call that was made elsewhere in the program. Raises NotFoundError."""


# --- in the program -----------------------------------------------------------------------------


class _Submitted:
    """A call of the program's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scheduler: Scheduler, job: Job) -> None:
        self.number = job.number
        self.job = job
        self._loop = loop
        self._scheduler = scheduler
        self._items: SimpleQueue[bytes | None] | None = None

    def wait(self, timeout: float | None) -> Outcome:
        try:
            return self.job.outcome.result(timeout)
        except TimeoutError:
            raise self._late(timeout) from None

    async def wait_async(self, timeout: float | None) -> Outcome:
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(asyncio.wrap_future(self.job.outcome))
        except TimeoutError:
            raise self._late(timeout) from None

    def _late(self, timeout: float | None) -> CallTimeoutError:
        return CallTimeoutError(f"The call of {self.job.spec.name} has no result within {timeout:g} s")

    def next_item(self) -> bytes | None:
        if self._items is None:
            self._items = SimpleQueue()
            self._loop.call_soon_threadsafe(self.job.follow, self._received)
        item = self._items.get()
        if item is not None:
            self._loop.call_soon_threadsafe(self.job.consumed)
        return item

    def _received(self, kind: Kind, payload: bytes) -> None:
        assert self._items is not None
        self._items.put(payload if kind is Kind.ITEM else None)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self.job.closed)

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._scheduler.cancel, self.number)


class LocalEngine:
    """Runs calls in processes on this machine, driven by a thread with an event loop of its own.

    ``places``: calls at once. ``on_line(spec, stream, text)`` and ``on_change(job)`` are called in
    that thread. ``start``: makes the processes.
    """

    def __init__(
        self,
        places: int,
        on_line: Callable[[Spec, str, str], None],
        on_change: Callable[[Job], None],
        start: Start = start_here,
    ) -> None:
        self._make = functools.partial(
            Scheduler, places=places, find=known, on_line=on_line, on_change=on_change, start=start
        )
        started: Future[Scheduler] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name="tunnelkit functions", daemon=True
        )
        self._thread.start()
        self._scheduler = started.result()

    async def _main(self, started: Future[Scheduler]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        scheduler = self._make()
        started.set_result(scheduler)
        await self._serve(scheduler)

    async def _serve(self, scheduler: Scheduler) -> None:
        await self._ending.wait()
        await scheduler.close()

    def submit(self, spec: Spec, arguments: bytes) -> _Submitted:
        spec.serialized  # noqa: B018 - what cannot be sent is the caller's to know, at once
        job = Job(spec, arguments)
        self._loop.call_soon_threadsafe(self._scheduler.submit, job)
        return _Submitted(self._loop, self._scheduler, job)

    def find(self, number: int) -> _Submitted:
        job = self._scheduler.find(number)
        return _Submitted(self._loop, self._scheduler, job)

    def close(self) -> None:
        """End all calls, and return when their processes are gone."""
        try:
            self._loop.call_soon_threadsafe(self._ending.set)
        except RuntimeError:
            return  # it has ended
        self._thread.join(END_TIME)


# --- in the process of a function -----------------------------------------------------------------


class _Asked:
    """A call that this process has asked the program for."""

    def __init__(self, link: child.Parent, call: child.NestedCall) -> None:
        self.number = call.number
        self._link = link
        self._call = call

    def __del__(self) -> None:
        self._link.forget(self.number)

    def wait(self, timeout: float | None) -> Outcome:
        outcome = self._call.wait(timeout)
        if outcome is None:
            raise CallTimeoutError(f"The call has no result within {timeout:g} s")
        return outcome

    async def wait_async(self, timeout: float | None) -> Outcome:
        return await asyncio.to_thread(self.wait, timeout)

    def next_item(self) -> bytes | None:
        return self._call.next_item()

    def close(self) -> None:
        self._call.close()

    def cancel(self) -> None:
        self._call.cancel()


class _NestedEngine:
    """Has the program make the call: its secrets and its traffic are not this process's business."""

    def __init__(self, link: child.Parent) -> None:
        self._link = link

    def submit(self, spec: Spec, arguments: bytes) -> _Asked:
        return _Asked(self._link, self._link.spawn(spec.key, arguments))

    def find(self, number: int) -> _Asked:
        return _Asked(self._link, self._link.follow(number))


# --- which of the two ---------------------------------------------------------------------------


def default_places() -> int:
    """Calls at once: most wait for something, few compute; the number that thread pools have."""
    return min(32, (os.cpu_count() or 1) + 4)


ENGINES: Final = ("local", "ray")


def chosen() -> str:
    """Where calls run, by TUNNELKIT_ENGINE: ``local`` or ``ray``. Raises InvalidError."""
    name = os.environ.get("TUNNELKIT_ENGINE", "") or "local"
    if name not in ENGINES:
        raise InvalidError(f"TUNNELKIT_ENGINE={name} is no engine", hint=f"Give {' or '.join(ENGINES)}")
    return name


def print_line(spec: Spec, stream: str, text: str) -> None:
    """Show a line of a function's output, with whose it is."""
    print(f"{spec.name} | {text}", file=getattr(sys, stream), flush=True)


def _ignore(job: Job) -> None: ...


class _Program:
    """What stands for this process: its functions, and its engine once there is one."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}
        self._lock = threading.Lock()
        self._engine: LocalEngine | None = None
        self.on_line: Callable[[Spec, str, str], None] = print_line
        self.on_change: Callable[[Job], None] = _ignore
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._forked,
        )
        atexit.register(self.close)

    def engine(self) -> Engine:
        if (link := child.parent()) is not None:
            return _NestedEngine(link)
        with self._lock:
            if self._engine is None:
                self._engine = self._new_engine()
            return self._engine

    def _new_engine(self) -> LocalEngine:
        if chosen() == "ray":
            from tunnelkit.functions.ray_engine import RayEngine  # Ray is an extra, and takes a second

            return RayEngine(self.on_line, self.on_change)
        return LocalEngine(default_places(), self.on_line, self.on_change)

    def _forked(self) -> None:
        self._engine = None
        self._lock.release()

    def close(self) -> None:
        with self._lock:
            last, self._engine = self._engine, None
        if last is not None:
            last.close()


_program: Final = _Program()


def engine() -> Engine:
    """The engine of this process."""
    return _program.engine()


def register(spec: Spec) -> None:
    """Have ``spec`` found by its key."""
    _program.specs[spec.key] = spec


def known_keys() -> list[str]:
    """The keys of all functions."""
    return list(_program.specs)


def known(key: str) -> Spec:
    """The function with that key. Raises NotFoundError."""
    try:
        return _program.specs[key]
    except KeyError:
        raise NotFoundError(
            f"The program has no function {key}",
            hint="Functions are declared in the program itself, or in a module that it imports",
        ) from None


def observe(*, on_line: Callable[[Spec, str, str], None], on_change: Callable[[Job], None]) -> None:
    """From the next engine on, show a function's output and the changes of calls in another way.

    Both are called in the engine's thread.
    """
    _program.on_line, _program.on_change = on_line, on_change


def close() -> None:
    """End all calls and processes; the next call starts anew."""
    _program.close()
