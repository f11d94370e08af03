"""Processes of functions that wait for their next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tunnelkit.functions.messages import Outcome
from tunnelkit.functions.pin import choose
from tunnelkit.functions.runner import Process, Runner, RunnerUser
from tunnelkit.functions.spec import Spec
from tunnelkit.functions.start import Route

__all__ = ["Start", "Warm", "start_here"]

Start = Callable[[Spec, Mapping[str, str], RunnerUser, Route | None], Process]
"""Makes a process, whose function is not loaded yet. Raises OSError, ProxyUnavailable."""

IDLE_TIME = 60.0
"""Seconds for which a process without a call is kept."""

LOOK_INTERVAL = 5.0
"""Seconds between looks at those that have been idle for too long."""


def start_here(spec: Spec, environment: Mapping[str, str], user: RunnerUser, route: Route | None) -> Process:
    """A process on this machine."""
    if route is None:
        return Runner(spec, environment, user)
    return Runner(spec, environment, user, choose(route), tuple(route.ips))


class Warm:
    """The processes of one scheduler: at most ``most`` of them wait without a call."""

    def __init__(self, most: int, user: RunnerUser, start: Start = start_here) -> None:
        self._start = start
        self._most = most
        self._user = user
        self._all: set[Process] = set()
        self._idle: list[Process] = []  # in the order in which they became so
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None

    async def take(
        self, spec: Spec, environment: Mapping[str, str], route: Route | None = None
    ) -> Process | Outcome:
        """A process of ``spec`` with just these variables; or what its loading failed with.

        It leaves by ``route``. One that still has other values of its secrets, or another pin, is
        ended. Raises RemoteError, ProxyUnavailable.
        """
        ips = tuple(route.ips) if route is not None else ()
        for runner in reversed(self._idle[:]):
            if runner.spec is spec:
                self._idle.remove(runner)
                if runner.environment == environment and runner.ips == ips:
                    return runner
                runner.kill()
        runner = self._start(spec, environment, self._user, route)
        self._all.add(runner)
        return await runner.load() or runner

    def give(self, runner: Process) -> None:
        """``runner`` has ended its call."""
        if runner.dead:
            return
        runner.idle_since = self._loop.time()
        self._idle.append(runner)
        if len(self._idle) > self._most:
            self._idle.pop(0).kill()
        if self._look is None:
            self._look = self._loop.call_later(LOOK_INTERVAL, self._end_old_ones)

    def _end_old_ones(self) -> None:
        oldest = self._loop.time() - IDLE_TIME
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).kill()
        self._look = self._loop.call_later(LOOK_INTERVAL, self._end_old_ones) if self._idle else None

    def remove(self, runner: Process) -> None:
        """``runner`` has died."""
        self._all.discard(runner)
        if runner in self._idle:
            self._idle.remove(runner)

    async def close(self) -> None:
        """End all, and wait until they are gone."""
        if self._look is not None:
            self._look.cancel()
        for runner in list(self._all):
            runner.kill()
        while self._all:
            await asyncio.wait([runner.gone for runner in self._all])
