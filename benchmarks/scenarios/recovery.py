"""How long a tunnel is away after its relay is back."""

from __future__ import annotations

import json
import statistics
import time

from benchmarks import services
from benchmarks.model import BenchmarkError, Measured, Metric, Mode, Peer, Scenario
from benchmarks.stage import PATIENCE, Stage, program

# Seconds between the kill and the start of the next relay. An agent's tries come further and further
# apart, so the shortest and the longest are measured, and what lies between.
PAUSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
PAUSES_QUICK = PAUSES[::2]
GIVEN_UP = 20.0  # seconds after which a tunnel counts as not coming back
SETTLED = 6.0  # seconds between two crashes: an agent may be slower to return to a relay that flaps


def fits(peer: Peer) -> bool:
    return peer.reconnects


def measure(stage: Stage) -> Measured:
    settled = time.monotonic()
    trials: dict[str, float] = {}
    took = []
    away = []
    _comeback(stage)
    for pause in PAUSES_QUICK if stage.settings.quick else PAUSES:
        time.sleep(max(0.0, settled - time.monotonic()))
        was_away, seconds = _crash(stage, pause)
        settled = time.monotonic() + SETTLED
        trials[f"s_after_a_pause_of_{pause:g}_s"] = seconds
        took.append(seconds)
        away.append(was_away)
    metrics = {"p50_s": statistics.median(took), "max_s": max(took), "away_s": max(away)}
    yield "a relay killed and started again", {**metrics, **trials}


def _crash(stage: Stage, pause: float) -> tuple[float, float]:
    """Kill the relay and start it again: seconds that it was away, and that the tunnel was on top."""
    server = stage.peer.server
    if server is None:
        raise BenchmarkError(f"{stage.what.name} started no relay that can be killed")
    server.kill()
    killed = time.monotonic()
    time.sleep(pause)
    server.start_again()
    return time.monotonic() - killed, _comeback(stage)


def _comeback(stage: Stage) -> float:
    host, port = stage.address
    output = stage.load.run(*program("comeback", host, str(port), str(GIVEN_UP))).result(GIVEN_UP + PATIENCE)
    return float(json.loads(output)["seconds"])


SCENARIO = Scenario(
    name="recovery",
    title="From a killed relay to a working tunnel",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=(
        Metric("p50_s", "s, median", spread=True, less=True),
        Metric("max_s", "s, longest", less=True),
        Metric("away_s", "relay away for at most, s"),
    ),
    note="The relay is killed (SIGKILL) and started again after a pause that grows from crash to crash. "
    "From when it is ready, visitors come every 20 ms; the first one that is served ends the time. "
    "Peers whose agent does not come back by itself are not measured.",
    rounds=3,
    quick=1,
    fits=fits,
)
