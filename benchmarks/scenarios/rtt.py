"""The round trip of 64 bytes on one open connection."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks import services
from benchmarks.model import Measured, Metric, Mode, Scenario
from benchmarks.programs.round_trips import WARM_UP
from benchmarks.stage import Stage, program


def measure(stage: Stage) -> Measured:
    seconds = stage.settings.seconds
    host, port = stage.address
    command = program("round_trips", host, str(port), "--seconds", str(seconds))
    run = stage.run(command, WARM_UP + seconds)
    metrics = json.loads(run.output)
    yield "64 bytes", {**metrics, **run.cost(metrics["total"]), **run.busy()}


SCENARIO = Scenario(
    name="rtt",
    title="Round trip",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=(
        Metric("p50_us", "p50 µs", spread=True, less=True),
        Metric("p99_us", "p99 µs", spread=True, less=True),
        Metric("cpu_us", "CPU µs a round trip", less=True),
        Metric("system_us", "of which kernel", less=True),
    ),
    note="One connection, one message at a time. With the machine idle most of this is the kernel "
    "waking a core for each process on the way. Load and service are the harness's own.",
)

ONE_CORE = replace(
    SCENARIO,
    name="rtt-one-core",
    title="Round trip, every process on one core",
    note="As above without the waking: what the work itself takes.",
    one_core=True,
    quick=0,
)
