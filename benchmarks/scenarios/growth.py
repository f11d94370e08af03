"""What more of everything costs: registered tunnels, visitors at once."""

from __future__ import annotations

from benchmarks import proc, services
from benchmarks.model import (
    COUNT,
    Address,
    BenchmarkError,
    Fleet,
    Measured,
    Metric,
    Metrics,
    Mode,
    Peer,
    Scenario,
)
from benchmarks.scenarios.http import wrk
from benchmarks.stage import Stage

MB = 1e6  # bytes

CONNECTIONS = 32
TUNNELS_EACH = 100  # of one agent, which is as many as a relay of tunnelkit allows

METRICS = (
    Metric("requests_s", "requests/s", spread=True),
    Metric("pss_mb", "MB PSS", spread=True, less=True),
    Metric("p50_us", "p50 µs", less=True),
    Metric("p99_us", "p99 µs", less=True),
    Metric("cpu_us", "CPU µs a request", less=True),
    Metric("load_cores", "load, cores"),
    Metric("service_cores", "service, cores"),
)


def counts(most: int) -> list[int]:
    """1, 10, 100 and so on, and ``most``."""
    return [*(10**power for power in range(6) if 10**power < most), most]


def ends(most: int, quick: bool) -> list[int]:
    """The points of a curve; of a quick one, both ends."""
    return sorted({1, most}) if quick else counts(most)


def has_fleet(peer: Peer) -> bool:
    return peer.fleet is not None


def tunnels(stage: Stage) -> Measured:
    if stage.what.fleet is None:
        raise BenchmarkError(f"{stage.what.name} has no fleet")
    fleet = stage.what.fleet(stage.peer, Mode.HTTP, stage.address)
    registered = 1
    for count in ends(stage.settings.tunnels, stage.settings.quick):
        _register(stage, fleet, count - registered)
        registered = count
        yield _case(count, "tunnel"), _point(stage, fleet.address, count, CONNECTIONS)


def visitors(stage: Stage) -> Measured:
    for count in ends(stage.settings.visitors, stage.settings.quick):
        yield _case(count, "visitor"), _point(stage, stage.address, count, count)


def _register(stage: Stage, fleet: Fleet, more: int) -> None:
    agents, rest = divmod(more, TUNNELS_EACH)
    if agents:
        fleet.join(stage.load, agents, TUNNELS_EACH)
    if rest:
        fleet.join(stage.load, 1, rest)


def _case(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count > 1 else ''}"


def _point(stage: Stage, address: Address, count: int, connections: int) -> Metrics:
    memory: list[int] = []
    metrics = wrk(stage, address, connections, halfway=lambda: memory.append(proc.memory(stage.peer.pids())))
    return {**metrics, COUNT: count, "pss_mb": memory[0] / MB}


TUNNELS = Scenario(
    name="growth-tunnels",
    title="Growth with the number of registered tunnels",
    mode=Mode.HTTP,
    service=services.http,
    measure=tunnels,
    metrics=METRICS,
    note=f"Requests on {CONNECTIONS} kept-alive connections to one tunnel, while others of further agents, "
    f"up to {TUNNELS_EACH} each, are registered. PSS is the relay's and the first agent's.",
    programs=("wrk", "nginx"),
    rounds=3,
    quick=1,
    fits=has_fleet,
    starts=False,
    curve="registered tunnels",
)

VISITORS = Scenario(
    name="growth-visitors",
    title="Growth with the number of visitors",
    mode=Mode.HTTP,
    service=services.http,
    measure=visitors,
    metrics=METRICS,
    note="That many kept-alive connections, each with one request at a time. PSS is of all the peer's "
    "processes, in the middle of it.",
    programs=("wrk", "nginx"),
    rounds=3,
    quick=0,
    curve="visitors at once",
)
