"""What an idle agent costs its relay."""

from __future__ import annotations

from benchmarks import services
from benchmarks.model import BenchmarkError, Measured, Mode, Peer, Scenario
from benchmarks.scenarios.idle import USE, growth, use
from benchmarks.stage import Stage


def fits(peer: Peer) -> bool:
    return peer.fleet is not None and peer.hops > 0


def measure(stage: Stage) -> Measured:
    if stage.what.fleet is None:
        raise BenchmarkError(f"{stage.what.name} has no fleet")
    count = stage.settings.agents
    fleet = stage.what.fleet(stage.peer, Mode.HTTP, stage.address)
    fleet.join(stage.load, 1, 1)  # what the first one brings along is not the next one's
    before = use(stage.peer)
    fleet.join(stage.load, count, 1)
    yield f"{count:,} agents", growth(before, use(stage.peer), count)


SCENARIO = Scenario(
    name="agents",
    title="Memory an idle agent with one tunnel, at the relay",
    mode=Mode.HTTP,
    service=services.http,
    measure=measure,
    metrics=USE,
    note="What that many agents, each with an HTTP tunnel, add to a relay, divided by their number. The "
    "agents are real ones that share a process of their own, which does not count. Each has a "
    "control connection and a warm data channel.",
    programs=("nginx",),
    rounds=3,
    quick=1,
    fits=fits,
    starts=False,
)
