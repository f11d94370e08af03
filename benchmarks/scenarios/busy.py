"""Visitors of a tunnel whose program is busy."""

from __future__ import annotations

import json

from benchmarks import services
from benchmarks.model import Address, BenchmarkError, Measured, Metric, Metrics, Mode, Peer, Scenario
from benchmarks.programs.round_trips import WARM_UP
from benchmarks.stage import Stage, program

CASES = {"the program waits": False, "the program is busy": True}


def fits(peer: Peer) -> bool:
    return peer.library is not None


def measure(stage: Stage) -> Measured:
    if stage.what.library is None:
        raise BenchmarkError(f"{stage.what.name} is no library")
    for case, busy in CASES.items():
        yield case, _round_trips(stage, stage.what.library(stage.peer, stage.address, busy))


def _round_trips(stage: Stage, address: Address) -> Metrics:
    seconds = stage.settings.seconds
    command = program("round_trips", address.host, str(address.port), "--seconds", str(seconds))
    run = stage.run(command, WARM_UP + seconds)
    return {**json.loads(run.output), **run.busy()}


SCENARIO = Scenario(
    name="busy",
    title="Round trip through a tunnel whose Python program is busy",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=(
        Metric("p50_us", "p50 µs", spread=True, less=True),
        Metric("p99_us", "p99 µs", spread=True, less=True),
    ),
    note="A program opens a TCP tunnel in one call of a library, with the relay embedded, and then waits or "
    "makes short system calls without end. direct is the same program without a tunnel: on few cores a "
    "busy one costs everybody.",
    fits=fits,
    starts=False,
)
