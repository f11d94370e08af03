"""What a scheduler keeps of calls that have ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, cast

import pytest

from tunnelkit.errors import NotFoundError
from tunnelkit.functions import scheduler
from tunnelkit.functions.job import Job
from tunnelkit.functions.messages import Kind, Outcome
from tunnelkit.functions.scheduler import Scheduler
from tunnelkit.functions.spec import Spec


class Process:
    """Stands for a function's process: returns what it is given, at once."""

    def __init__(self, *_: Any) -> None:
        self.pid, self.zone, self.way, self.environment, self.ips = 1, "", "", {}, ()
        self.waiting = self.dead = self.cut_off = False
        self.idle_since = 0.0
        self.spec = SPEC
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def load(self) -> None: ...

    async def run(self, _call: int, arguments: bytes) -> Outcome:
        return Outcome(Kind.VALUE, arguments)

    def kill(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
            self.user.died(cast("Any", self))

    user: Scheduler


SPEC = Spec("app/f", "f", lambda: None)


async def test_results_are_kept_for_others_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "KEPT_BYTES", 10_000)

    def start(_spec: Spec, _environment: Any, user: Any, _route: Any) -> Any:
        process = Process()
        process.user = user
        return process

    calls = Scheduler(
        places=1, find=lambda _: SPEC, on_line=lambda *_: None, on_change=lambda _: None, start=start
    )
    numbers, held = [], Job(SPEC, bytes(1000))
    calls.submit(held)
    jobs: weakref.WeakSet[Job] = weakref.WeakSet()
    for _ in range(50):
        job = Job(SPEC, bytes(1000))
        jobs.add(job)
        numbers.append(job.number)
        calls.submit(job)
        await asyncio.wrap_future(job.outcome)
        del job
        await asyncio.sleep(0)
    gc.collect()
    assert calls.find(numbers[-1]).outcome.result().payload == bytes(1000)
    assert len(jobs) <= 12
    with pytest.raises(NotFoundError):
        calls.find(numbers[0])
    assert calls.find(held.number) is held  # as the program has it still
    await calls.close()
