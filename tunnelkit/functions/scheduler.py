"""The calls of a program: when each runs, in which process, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from tunnelkit.errors import (
    CallCancelledError,
    FunctionTimeoutError,
    InvalidError,
    NotFoundError,
    TunnelkitError,
)
from tunnelkit.functions.failure import outcome_of_error
from tunnelkit.functions.job import Follower, Job, State
from tunnelkit.functions.messages import Kind, Outcome, unpack_spawn
from tunnelkit.functions.places import Places
from tunnelkit.functions.runner import Process
from tunnelkit.functions.spec import Spec
from tunnelkit.functions.warm import Start, Warm, start_here
from tunnelkit.net.tasks import Tasks

__all__ = ["Scheduler"]

KEPT: Final = 1000
"""Ended calls that a function may still ask for when nobody else holds them, the latest ones."""

KEPT_BYTES: Final = 64 << 20
"""Bytes that the results of those may have together. One more call is kept than fits."""

log = logging.getLogger("tunnelkit")


class Scheduler:
    """Everything here happens in one event loop. ``places``: how many calls run at once."""

    def __init__(
        self,
        *,
        places: int,
        find: Callable[[str], Spec],
        on_line: Callable[[Spec, str, str], None],
        on_change: Callable[[Job], None],
        start: Start = start_here,
    ) -> None:
        self._find = find
        self._on_line = on_line
        self._on_change = on_change
        self._places = Places(places)
        self._warm = Warm(places, self, start)
        self._jobs: dict[int, Job] = {}
        self._known: WeakValueDictionary[int, Job] = WeakValueDictionary()
        """All calls that run, that the program holds, or that are kept."""
        self._kept: deque[Job] = deque()
        self._kept_bytes = 0
        self._serving: dict[int, asyncio.Task[Outcome]] = {}
        self._running: dict[Process, Job] = {}
        self._made: dict[Process, dict[int, Follower]] = {}
        """For each process, the calls that it follows."""
        self._tasks = Tasks("functions")

    # --- calls ----------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Have ``job`` run as soon as there is a place."""
        self._jobs[job.number] = self._known[job.number] = job
        serving = self._tasks.spawn(self._serve(job), job.spec.name)
        self._serving[job.number] = serving
        serving.add_done_callback(lambda task: self._settle(job, task))
        self._on_change(job)

    def find(self, number: int) -> Job:
        """A call that was made before. Raises NotFoundError."""
        job = self._known.get(number)
        if job is None:
            raise NotFoundError("That call is not known any more", hint="Ask for its result sooner")
        return job

    def cancel(self, number: int) -> None:
        """End a call, whether it waits or runs. One that has ended stays as it is."""
        if (serving := self._serving.get(number)) is not None:
            serving.cancel()

    async def _serve(self, job: Job) -> Outcome:
        try:
            return await self._attempts(job)
        except Exception as error:  # noqa: BLE001 - the task boundary: it is raised where the result is wanted
            return outcome_of_error(error)

    def _settle(self, job: Job, serving: asyncio.Task[Outcome]) -> None:
        if serving.cancelled():
            error = CallCancelledError(f"The call of {job.spec.name} was cancelled")
            outcome = outcome_of_error(error, text="")
        else:
            outcome = serving.result()
        del self._serving[job.number], self._jobs[job.number]
        job.settle(outcome)
        self._kept.append(job)
        self._kept_bytes += len(outcome.payload)
        while len(self._kept) > 1 and (len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES):
            self._kept_bytes -= len(self._kept.popleft().outcome.result().payload)
        self._on_change(job)

    async def _attempts(self, job: Job) -> Outcome:
        retries = job.spec.retries
        for attempt in range(retries.max_retries + 1):
            await self._places.take(job.spec)
            try:
                outcome = await self._attempt(job)
            finally:
                self._places.give(job.spec)
            if outcome.kind is Kind.VALUE or job.yielded or attempt == retries.max_retries:
                break
            job.state = State.WAITING
            self._on_change(job)
            await asyncio.sleep(retries.delay(attempt))
        return outcome

    async def _attempt(self, job: Job) -> Outcome:
        spec = job.spec
        try:
            environment = await asyncio.to_thread(spec.environment) if spec.secrets else {}
            route = await asyncio.to_thread(spec.route) if spec.proxy is not None else None
            runner = await self._warm.take(spec, environment, route)
            if isinstance(runner, Outcome):
                return runner
            return await self._run(job, runner)
        except TunnelkitError as error:  # ours: the stack is of no use to anybody
            return outcome_of_error(error, text="\n".join(getattr(error, "__notes__", ())))

    async def _run(self, job: Job, runner: Process) -> Outcome:
        job.state, job.pid, job.egress = State.RUNNING, runner.pid, runner.way
        job.zone = runner.zone or job.spec.zone
        job.consumed = lambda: runner.send(Kind.MORE, job.number)
        job.closed = lambda: runner.send(Kind.CLOSE, job.number)
        self._running[runner] = job
        self._on_change(job)
        try:
            async with asyncio.timeout(job.spec.timeout) as limit:
                outcome = await runner.run(job.number, job.arguments)
        except TimeoutError:
            if not limit.expired():
                raise
            what = f"{job.spec.name} took longer than its {job.spec.timeout:g} s"
            raise FunctionTimeoutError(what) from None
        finally:
            del self._running[runner]
            if runner.waiting:
                self._places.retake(job.spec)  # it had lent its place, which is given back right away
                runner.waiting = False
        self._warm.give(runner)
        return outcome

    # --- what a function's process asks for: see RunnerUser -----------------------------------------

    def nested(self, runner: Process, kind: Kind, call: int, payload: bytes) -> None:
        if kind is Kind.SPAWN:
            self._spawn(runner, call, payload)
        elif kind is Kind.FOLLOW:
            self._follow(runner, call)
        elif kind is Kind.CANCEL:
            self.cancel(call)
        elif (job := self._jobs.get(call)) is not None:
            job.consumed() if kind is Kind.MORE else job.closed()

    def _spawn(self, runner: Process, call: int, payload: bytes) -> None:
        key, arguments = unpack_spawn(payload)
        try:
            if call in self._known:
                raise InvalidError("A call by that number has been made already")
            spec = self._find(key)
        except TunnelkitError as error:
            runner.send(Kind.ERROR, call, outcome_of_error(error, text="").payload)
            return
        self.submit(Job(spec, arguments, call))
        self._follow(runner, call)

    def _follow(self, runner: Process, call: int) -> None:
        try:
            job = self.find(call)
        except NotFoundError as error:
            runner.send(Kind.ERROR, call, outcome_of_error(error, text="").payload)
            return
        follows = self._made.setdefault(runner, {})

        def follower(kind: Kind, payload: bytes) -> None:
            if kind is not Kind.ITEM:
                follows.pop(call, None)
            runner.send(kind, call, payload)

        follows[call] = follower
        job.follow(follower)

    def item(self, runner: Process, payload: bytes) -> None:
        if (job := self._running.get(runner)) is not None:
            job.item(payload)

    def blocked(self, runner: Process, blocked: bool) -> None:
        if (job := self._running.get(runner)) is not None:
            if blocked:
                self._places.give(job.spec)
            else:
                self._places.retake(job.spec)

    def line(self, runner: Process, stream: str, text: str) -> None:
        self._on_line(runner.spec, stream, text)

    def died(self, runner: Process) -> None:
        """What a call has begun ends with it if it is cut off, unless somebody else follows that."""
        self._warm.remove(runner)
        cut_off = runner.cut_off or runner in self._running
        for call, follower in self._made.pop(runner, {}).items():
            if (job := self._jobs.get(call)) is not None:
                job.unfollow(follower)
                if cut_off and not job.followed:
                    self.cancel(call)

    async def close(self) -> None:
        """End all calls and all processes."""
        await self._tasks.close()
        await self._warm.close()
