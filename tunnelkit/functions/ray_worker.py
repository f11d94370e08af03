"""The end of a function's process on a Ray cluster: an actor with one runner, the same as on one machine.

The program calls two methods of the actor: ``deliver`` hands it messages for the process, ``collect``
waits for messages from it. Both carry batches of frames, sealed: see :mod:`tunnelkit.functions.sealed`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tunnelkit.errors import RemoteError
from tunnelkit.functions.messages import Kind, Setup, dump
from tunnelkit.functions.runner import Process, Runner, RunnerUser
from tunnelkit.functions.sealed import Channel
from tunnelkit.functions.spec import Spec
from tunnelkit.net.tasks import Tasks

__all__ = ["DIED", "REGION", "STREAMS", "ZONE", "Frame", "Worker"]

STREAMS = ("stdout", "stderr")
DIED = "died"

REGION, ZONE = "ray.io/region", "ray.io/zone"
"""The labels of nodes, by Ray's own names for them."""

Frame = tuple[Kind | str, int, bytes]
"""A message of the process, with its call and payload. Instead of a kind: one of :data:`STREAMS` for a
line of output, :data:`DIED` for the end of the process, with ``(what, hint, notes)`` of its error."""

HOLD = 20.0
"""Seconds after which ``collect`` returns without a frame: one whose program has gone waits no longer."""

MAX_LINES = 10_000
"""Lines of output that wait for the program; what a function prints beyond that is left out, and counted."""


def _here(setup: Setup) -> Setup:
    """Modules are looked for in the places of this node, and in those of the program's that exist here."""
    theirs = [place for place in setup.path if place not in sys.path and Path(place).exists()]
    return replace(setup, path=[*sys.path, *theirs])


def _elsewhere() -> NoReturn:
    raise NotImplementedError("the function is in its own process")


class _Sent(Runner):
    """A runner whose function was pickled elsewhere: it is unpickled in its own process alone."""

    def __init__(self, setup: Setup, user: RunnerUser) -> None:
        super().__init__(Spec("", setup.name, _elsewhere), setup.environment, user)
        self._setup = setup

    def setup(self) -> Setup:
        return self._setup


class Worker:
    """The actor. Its methods run in one event loop."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._channel = Channel()
        self._frames: list[Frame] = []
        self._lines = 0
        self._left_out = 0
        self._filled = asyncio.Event()
        self._tasks = Tasks("functions")

    async def open(self, public: bytes) -> tuple[bytes, int, str]:
        """This end's public key, the id of this process and the zone of its node."""
        import ray

        labels = ray.get_runtime_context().get_node_labels()
        self._channel.connect(public, first=False)
        return self._channel.public, os.getpid(), labels.get(ZONE, "")

    async def deliver(self, sealed: bytes) -> None:
        """Messages for the process."""
        frames: list[Frame] = pickle.loads(self._channel.open(sealed))
        for kind, call, payload in frames:
            if kind is Kind.SETUP:
                self._tasks.spawn(self._start(pickle.loads(payload)), "start")
            elif kind is Kind.CALL:
                self._tasks.spawn(self._run(call, payload), "call")
            elif self._runner is not None:
                assert isinstance(kind, Kind)
                self._runner.send(kind, call, payload)

    async def collect(self) -> bytes:
        """What the process has sent, waited for."""
        try:
            async with asyncio.timeout(HOLD):
                await self._filled.wait()
        except TimeoutError:
            pass
        frames, self._frames = self._frames, []
        if self._left_out:
            text = f"… {self._left_out:,} lines left out, printed faster than they could be passed on"
            frames.append(("stderr", 0, text.encode()))
        self._lines = self._left_out = 0
        self._filled.clear()
        return self._channel.seal(dump(frames))

    def _put(self, kind: Kind | str, call: int, payload: bytes) -> None:
        self._frames.append((kind, call, payload))
        self._filled.set()

    # --- the process ----------------------------------------------------------------------------

    async def _start(self, setup: Setup) -> None:
        try:
            self._runner = runner = _Sent(_here(setup), self)
            failure = await runner.load()
        except (RemoteError, OSError) as error:
            self._end(error)
        else:
            self._put(Kind.READY, 0, b"" if failure is None else failure.payload)

    async def _run(self, call: int, arguments: bytes) -> None:
        assert self._runner is not None
        try:
            outcome = await self._runner.run(call, arguments)
        except RemoteError as error:
            self._end(error)
        else:
            self._put(outcome.kind, call, outcome.payload)

    def _end(self, error: RemoteError | OSError) -> None:
        what = getattr(error, "what", str(error))
        self._put(DIED, 0, dump((what, getattr(error, "hint", ""), getattr(error, "__notes__", []))))

    # --- see RunnerUser -------------------------------------------------------------------------

    def nested(self, runner: Process, kind: Kind, call: int, payload: bytes) -> None:
        self._put(kind, call, payload)

    def item(self, runner: Process, payload: bytes) -> None:
        self._put(Kind.ITEM, 0, payload)

    def blocked(self, runner: Process, blocked: bool) -> None:
        self._put(Kind.BLOCKED if blocked else Kind.UNBLOCKED, 0, b"")

    def line(self, runner: Process, stream: str, text: str) -> None:
        if self._lines == MAX_LINES:
            self._left_out += 1
            return
        self._lines += 1
        self._put(stream, 0, text.encode())

    def died(self, runner: Process) -> None:
        assert isinstance(runner, Runner)
        self._end(runner.death())
