"""New TCP connections a second."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks import services
from benchmarks.model import Measured, Metric, Metrics, Mode, Scenario
from benchmarks.programs.connections import WARM_UP
from benchmarks.stage import Stage, program

AT_ONCE = 32

# Who closes first decides what the peer does last, and on whose side the port waits out TIME_WAIT.
CASES = {"visitor closes": [], "service closes": ["--service-closes"]}
QUICK = ["visitor closes"]


def measure(stage: Stage) -> Measured:
    for case in QUICK if stage.settings.quick else CASES:
        yield case, _connections(stage, CASES[case])


def _connections(stage: Stage, options: Sequence[str]) -> Metrics:
    host, port = stage.address
    seconds = stage.settings.seconds
    command = program(
        "connections", host, str(port),
        "--at-once", str(AT_ONCE),
        "--seconds", str(seconds),
        *options,
    )  # fmt: skip
    run = stage.run(command, WARM_UP + seconds)
    metrics = json.loads(run.output)
    return {**metrics, **run.cost(metrics["total"]), **run.busy()}


SCENARIO = Scenario(
    name="tcp-new",
    title="New TCP connections",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=(
        Metric("connections_s", "connections/s", spread=True),
        Metric("p50_us", "p50 µs", less=True),
        Metric("p99_us", "p99 µs", less=True),
        Metric("cpu_us", "CPU µs a connection", less=True),
        Metric("system_us", "of which kernel", less=True),
        Metric("load_cores", "load, cores"),
        Metric("service_cores", "service, cores"),
    ),
    note=f"Connect, send 64 bytes, receive them, close; {AT_ONCE} at a time. Load and service are "
    "the harness's own.",
)
