"""The store of secrets: what reading one and listing many take."""

from __future__ import annotations

import json

from benchmarks import services
from benchmarks.model import Measured, Metric, Mode, Peer, Scenario
from benchmarks.stage import Stage, program

SECRETS = 10_000

# Writing that many, each of them to the disk, comes before what is measured.
FILLING = 60.0  # seconds


def fits(peer: Peer) -> bool:
    return peer.name == "tunnelkit"


def measure(stage: Stage) -> Measured:
    seconds = stage.settings.seconds
    command = program(
        "store", str(stage.load.directory / "home"), "--secrets", str(SECRETS), "--seconds", str(seconds)
    )
    results = json.loads(stage.run(command, 4 * seconds + FILLING).output)
    for case, metrics in results.items():
        yield f"{case}, {SECRETS:,} secrets", metrics


SCENARIO = Scenario(
    name="store",
    title="The store of secrets",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=(Metric("p50_ms", "p50 ms", spread=True), Metric("p99_ms", "p99 ms", spread=True)),
    note=f"A store of {SECRETS:,} secrets with two variables each, read and written one after another by one "
    "process. A write is on the disk when it returns; the temporary directory's disk is what it waits for.",
    fits=fits,
    starts=False,
)
