"""What an open stream costs while nothing is sent on it."""

from __future__ import annotations

import time

from benchmarks import proc, services
from benchmarks.model import Measured, Metric, Metrics, Mode, Scenario
from benchmarks.processes import Launcher
from benchmarks.stage import PATIENCE, Stage, program

KB = 1000  # bytes

USE = (
    Metric("pss_kb", "kB PSS", spread=True, less=True),
    Metric("descriptors", "descriptors", less=True),
    Metric("sockets", "sockets, whole machine"),
    Metric("buffers_kb", "socket buffers kB, whole machine"),
)

# A peer is measured once it has used no CPU for this long, or after the second time at the latest.
QUIET = 0.3  # seconds
QUIET_AT_LATEST = 5.0  # seconds


def settle(peer: Launcher) -> None:
    """Wait until the peer has done what opening streams gave it to do."""
    deadline = time.monotonic() + QUIET_AT_LATEST
    used = -1.0
    while used != (used := proc.cpu_seconds(peer.pids())) and time.monotonic() < deadline:
        time.sleep(QUIET)


def use(peer: Launcher) -> dict[str, float]:
    """What a peer holds, once it is quiet."""
    settle(peer)
    pids = peer.pids()
    sockets = proc.socket_use()
    return {
        "pss_kb": proc.memory(pids) / KB,
        "descriptors": proc.descriptors(pids),
        "buffers_kb": sockets.buffers / KB,
        "sockets": sockets.sockets,
    }


def growth(before: Metrics, after: Metrics, count: int) -> dict[str, float]:
    """What each of ``count`` added."""
    return {name: (after[name] - before[name]) / count for name in before}


def measure(stage: Stage) -> Measured:
    host, port = stage.address
    count = stage.settings.streams
    load = stage.load.run(*program("streams", host, str(port), str(count)))
    load.expect("^first$")
    before = use(stage.peer)
    load.tell("open the others")
    load.expect("^open$", timeout=PATIENCE)
    after = use(stage.peer)
    load.tell("close")
    load.result(PATIENCE)
    yield f"{count:,} streams", growth(before, after, count)


SCENARIO = Scenario(
    name="idle",
    title="Memory an idle open stream",
    mode=Mode.TCP,
    service=services.echo,
    measure=measure,
    metrics=USE,
    note="What that many streams add to one, divided by their number. PSS and descriptors are of "
    "all the peer's processes; sockets and their buffers in the kernel are the whole machine's, "
    "visitors and service included. 1 kB is 1,000 bytes.",
)
