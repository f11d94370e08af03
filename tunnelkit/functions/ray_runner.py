"""One process of one function on a Ray cluster, from the program's side: see RayRunner."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from tunnelkit.errors import ClusterError, ProxyUnavailable, RemoteError
from tunnelkit.functions.messages import Kind, Outcome, dump
from tunnelkit.functions.ray_worker import DIED, REGION, STREAMS, ZONE, Frame, Worker
from tunnelkit.functions.runner import START_TIMEOUT, RunnerUser, setup_of
from tunnelkit.functions.sealed import Channel
from tunnelkit.functions.spec import Spec
from tunnelkit.functions.start import Route
from tunnelkit.net.tasks import Tasks

__all__ = ["Cluster", "RayRunner", "selectors"]

PLACE_TIMEOUT = 600.0
"""Seconds for the cluster to find room for a process: enough for an autoscaler to bring up a node."""

LOOK_INTERVAL = 0.2
"""Seconds between looks at whether a process that waits for room could have some of ours."""

METHODS_AT_ONCE = 4
"""Of an actor: ``collect`` waits while ``deliver`` runs, and one of each may be at its end."""


def selectors(spec: Spec) -> list[dict[str, str]]:
    """Where a process of ``spec`` may run, best first: in its zone, in its regions, anywhere.

    A zone's name may be that of a region, as ``SchedulerPlacement.zone`` takes both.
    """
    zone = [{ZONE: spec.zone}, {REGION: spec.zone}] if spec.zone else []
    return [*zone, *({REGION: region} for region in spec.regions), {}]


class Cluster:
    """What the processes of one program on a cluster share. ``cpus``: how many the cluster has."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.lost: ClusterError | None = None
        """Why the cluster cannot be used any more."""
        self.runners: set[RayRunner] = set()
        self.tasks = Tasks("ray")
        self._actor = ray.remote(Worker)

    def start(
        self, spec: Spec, environment: Mapping[str, str], user: RunnerUser, route: Route | None
    ) -> RayRunner:
        """Raises ProxyUnavailable: the addresses of this machine are not those of the nodes."""
        if spec.proxy is not None or route is not None:
            raise ProxyUnavailable(
                f"{spec.name} has a proxy, and connections from a Ray cluster cannot be pinned to one",
                hint="Unset TUNNELKIT_ENGINE to run it on this machine, or leave out proxy=",
            )
        return RayRunner(self, spec, environment, user)

    @property
    def lends(self) -> bool:
        """Whether a call waits for a nested one, and its CPU is idle meanwhile."""
        lent = sum(runner.waiting for runner in self.runners if runner.cpus)
        return lent > sum(not runner.waiting for runner in self.runners if not runner.cpus)

    @property
    def full(self) -> bool:
        """Whether this program's processes have all CPUs."""
        return sum(runner.cpus for runner in self.runners) >= self.cpus

    def make_room(self) -> None:
        """End the process that has been without a call for the longest time, if there is one."""
        idle = [runner for runner in self.runners if runner.idle and runner.cpus]
        if idle:
            min(idle, key=lambda runner: runner.idle_since).kill()

    def actor(self, spec: Spec, cpus: int) -> Any:
        """A new actor for ``spec``, which Ray places when there is room."""
        first, *others = selectors(spec)
        # Nothing of the program is in the options: Ray writes them to its logs.
        return self._actor.options(
            num_cpus=cpus,
            max_restarts=0,
            max_concurrency=METHODS_AT_ONCE,
            label_selector=first,
            fallback_strategy=[{"label_selector": other} for other in others] or None,
        ).remote()

    def lose(self, error: ClusterError) -> None:
        """The cluster has gone: so have the processes."""
        self.lost = error
        for runner in list(self.runners):
            runner.end(error)


class RayRunner:
    """Does what :class:`tunnelkit.functions.runner.Runner` does, with an actor that has the process.

    The actor holds one CPU, idle or not. While a call waits for a nested one its CPU has nothing to do:
    the process of another call may then be placed without one, so that calls never wait for each other.
    """

    def __init__(
        self, cluster: Cluster, spec: Spec, environment: Mapping[str, str], user: RunnerUser
    ) -> None:
        self.spec = spec
        self.environment = environment
        self.user = user
        self.ips: tuple[str, ...] = ()
        self.way = ""
        self.zone = ""
        self.call = 0
        self.waiting = False
        self.idle_since = 0.0
        self.cut_off = False
        self.dead = False
        self.pid = 0
        self.cpus = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cluster = cluster
        self._actor: Any = None
        self._channel = Channel()
        self._frames: list[Frame] = []
        self._filled = asyncio.Event()
        self._loaded = False
        self._ready: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._result: asyncio.Future[Outcome] | None = None
        self._error: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<RayRunner of {self.spec.name}, process {self.pid}>"

    @property
    def idle(self) -> bool:
        return self._loaded and not self.call and not self.dead

    # --- its beginning --------------------------------------------------------------------------

    async def load(self) -> Outcome | None:
        """Have the function loaded; what it failed with, or None. If cancelled, end the process."""
        try:
            if self._cluster.lost is not None:
                raise self._cluster.lost
            async with asyncio.timeout(PLACE_TIMEOUT):
                await self._place()
            spawn = self._cluster.tasks.spawn
            self._tasks = [spawn(self._collect(), "collect"), spawn(self._deliver(), "deliver")]
            self.send(Kind.SETUP, 0, dump(setup_of(self.spec, self.environment)))
            async with asyncio.timeout(START_TIMEOUT):
                failure = await self._ready
        except TimeoutError:
            self.kill()
            where = f"was not placed on the cluster within {PLACE_TIMEOUT:g} s, or not loaded"
            raise RemoteError(f"{self.spec.name} {where} within {START_TIMEOUT:g} s") from None
        except RayError as error:
            self.kill()
            raise _unusable(self.spec, error) from None
        except BaseException:
            self.kill()
            raise
        if failure is not None:
            self.kill()
        self._loaded = True
        return failure

    async def _place(self) -> None:
        cluster = self._cluster
        while True:
            cluster.runners.discard(self)
            lent = cluster.full and cluster.lends
            if not lent and cluster.full:
                cluster.make_room()
            self.cpus = 0 if lent else 1
            cluster.runners.add(self)
            self._actor = cluster.actor(self.spec, self.cpus)
            opening = asyncio.wrap_future(self._actor.open.remote(self._channel.public).future())
            opening.add_done_callback(_looked_at)
            while True:
                done, _ = await asyncio.wait([opening], timeout=LOOK_INTERVAL)
                if done:
                    public, self.pid, self.zone = opening.result()
                    self._channel.connect(public, first=True)
                    return
                if cluster.lost is not None:
                    raise cluster.lost
                if self.cpus and cluster.lends:
                    break
                if self.cpus:
                    cluster.make_room()
            self._end_actor()
            opening.cancel()

    # --- what the scheduler does with it --------------------------------------------------------

    async def run(self, call: int, arguments: bytes) -> Outcome:
        """Run one call. If cancelled, end the process. Raises RemoteError if it dies."""
        if self.dead:
            raise self.death()
        self.call = call
        self._result = asyncio.get_running_loop().create_future()
        self.send(Kind.CALL, call, arguments)
        try:
            return await self._result
        except BaseException:
            self.cut_off = True
            self.kill()
            raise
        finally:
            self.call = 0
            self._result = None

    def send(self, kind: Kind, call: int, payload: bytes = b"") -> None:
        if not self.dead:
            self._frames.append((kind, call, payload))
            self._filled.set()

    def kill(self) -> None:
        """End the actor. Its process sees that, and ends with all that it has started."""
        self.end(RemoteError(f"The process of {self.spec.name} was ended"))

    def death(self) -> Exception:
        """Why the process is no more."""
        assert self._error is not None
        return self._error

    # --- the way to the actor -------------------------------------------------------------------

    async def _deliver(self) -> None:
        """One batch after another: what comes meanwhile makes the next one."""
        with self._ends_with_the_actor():
            while True:
                await self._filled.wait()
                self._filled.clear()
                frames, self._frames = self._frames, []
                await self._actor.deliver.remote(self._channel.seal(dump(frames)))

    async def _collect(self) -> None:
        with self._ends_with_the_actor():
            while True:
                for frame in pickle.loads(self._channel.open(await self._actor.collect.remote())):
                    self._received(*frame)

    def _ends_with_the_actor(self) -> contextlib.AbstractContextManager[None]:
        return _Ends(self)

    def _received(self, kind: Kind | str, call: int, payload: bytes) -> None:
        if self.dead:
            return
        if isinstance(kind, str):
            if kind in STREAMS:
                self.user.line(self, kind, payload.decode())
            elif kind == DIED:
                what, hint, notes = pickle.loads(payload)
                self.end(_with_notes(RemoteError(what, hint=hint), notes))
        elif kind is Kind.READY:
            self._ready.set_result(Outcome(Kind.ERROR, payload) if payload else None)
        elif kind is Kind.ITEM:
            self.user.item(self, payload)
        elif kind in (Kind.BLOCKED, Kind.UNBLOCKED):
            if self.waiting is not (kind is Kind.BLOCKED):  # said once: a place is lent and taken back once
                self.waiting = kind is Kind.BLOCKED
                self.user.blocked(self, self.waiting)
        elif kind not in (Kind.VALUE, Kind.ERROR):
            self.user.nested(self, kind, call, payload)
        elif call == self.call and self._result is not None and not self._result.done():
            self._result.set_result(Outcome(kind, payload))

    # --- the end --------------------------------------------------------------------------------

    def end(self, error: Exception) -> None:
        """The process is no more, or is not to be any more, because of ``error``."""
        if self.dead:
            return
        self.dead, self._error = True, error
        self._cluster.runners.discard(self)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._end_actor()
        self._frames.clear()
        for future in (self._ready, self._result):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # looked at, whoever waits for it
        self.gone.set_result(None)
        self.user.died(self)

    def _end_actor(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None and self._cluster.lost is None:
            with contextlib.suppress(RayError, ValueError):
                ray.kill(actor)


def _looked_at(future: asyncio.Future[Any]) -> None:
    """An actor that is not wanted any more fails, which is no news."""
    if not future.cancelled():
        future.exception()


class _Ends:
    """What fails inside, by the actor's end or by what it sends, ends the runner."""

    def __init__(self, runner: RayRunner) -> None:
        self._runner = runner

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, RayError | ValueError):
            self._runner.end(_unusable(self._runner.spec, error))
            return True
        return self._runner.dead and isinstance(error, AttributeError)


def _with_notes(error: RemoteError, notes: Sequence[str]) -> RemoteError:
    for note in notes:
        error.add_note(note)
    return error


def _unusable(spec: Spec, error: Exception) -> RemoteError:
    """An error of Ray's, in one line: the rest of its text is about the actor, which nobody has made."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = next((line for line in reversed(lines) if "ModuleNotFoundError" in line), "")
    if missing:
        hint = "Each node of the cluster needs the tunnelkit[ray] of this program"
        return RemoteError(f"The process of {spec.name} could not start: {missing}", hint=hint)
    hint = "Its node may have ended or run out of memory: see `ray status` and Ray's logs"
    return RemoteError(f"The process of {spec.name} is gone from the cluster: {lines[0]}", hint=hint)
