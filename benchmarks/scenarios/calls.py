"""System calls, by strace: what a request, a connection and an idle tunnel cost whatever the machine's
speed and load."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks import services
from benchmarks.model import Measured, Metric, Metrics, Mode, Peer, Scenario
from benchmarks.scenarios.bulk import DIRECTIONS, iperf3
from benchmarks.scenarios.http import wrk
from benchmarks.scenarios.idle import settle
from benchmarks.stage import Stage, program

IDLE = 10.0  # seconds: what happens once a second should not depend on when the count begins

MB_PER_GB = 1000

Units = Callable[[], float]

_ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def fits(peer: Peer) -> bool:
    return peer.hops > 0


def parse_strace(text: str) -> dict[str, int]:
    """Calls by name in the report of ``strace -c``."""
    return {name: int(calls) for calls, name in _ROW.findall(text) if name != "total"}


def tcp(stage: Stage) -> Measured:
    host, port = stage.address
    seconds = str(stage.settings.seconds)

    def run(name: str, *options: str) -> Units:
        def units() -> float:
            command = program(name, host, str(port), "--seconds", seconds, *options)
            return float(json.loads(stage.run(command, stage.settings.seconds).output)["total"])

        return units

    yield "a round trip of 64 bytes", _calls(stage, run("round_trips"))
    yield "a new connection", _calls(stage, run("connections", "--at-once", "1"))
    yield "an idle second", _calls(stage, _idle)


def http(stage: Stage) -> Measured:
    for connections in (1, 32):

        def units(connections: int = connections) -> float:
            return wrk(stage, stage.address, connections, warm_up=False)["requests"]

        yield f"a request, {connections} kept alive", _calls(stage, units)


def bulk(stage: Stage) -> Measured:
    for direction in DIRECTIONS:

        def units(direction: str = direction) -> float:
            return iperf3(stage, 1, direction)["gb"] * MB_PER_GB

        yield f"a megabyte {direction}", _calls(stage, units)


def _idle() -> float:
    started = time.monotonic()
    time.sleep(IDLE)
    return time.monotonic() - started


def _calls(stage: Stage, run: Units) -> Metrics:
    """Calls a unit: of all the peer's processes together, and of each one by name.

    ``1.recvfrom`` is what the first process of the peer, with its descendants, calls that often.
    """
    settle(stage.peer)  # who served the last visitor may be about to end
    with contextlib.ExitStack() as stack:
        reports = [
            stack.enter_context(_counting(stage, number, family))
            for number, family in enumerate(stage.peer.families(), 1)
        ]
        units = run()
    counts = {
        f"{number}.{name}": calls / units
        for number, report in enumerate(reports, 1)
        for name, calls in report.items()
    }
    return {"calls": sum(counts.values()), **counts}


@contextlib.contextmanager
def _counting(stage: Stage, number: int, pids: list[int]) -> Iterator[dict[str, int]]:
    """Count the calls of some processes; the result is filled when the ``with`` ends."""
    path = stage.load.directory / f"calls-{number}"
    attach = [word for pid in pids for word in ("-p", str(pid))]
    strace = stage.load.run("strace", "-f", "-c", "-o", str(path), *attach)
    for pid in pids:
        strace.expect(rf"Process {pid} attached")
    counted: dict[str, int] = {}
    yield counted
    strace.interrupt()
    counted |= parse_strace(path.read_text())


TCP = Scenario(
    name="calls",
    title="System calls",
    mode=Mode.TCP,
    service=services.echo,
    measure=tcp,
    metrics=(Metric("calls", "system calls", spread=True, less=True),),
    note="strace -c on all the peer's processes, while one visitor at a time keeps them at work, or nobody.",
    programs=("strace",),
    rounds=1,
    quick=0,
    fits=fits,
)

HTTP = replace(
    TCP,
    name="calls-http",
    title="System calls of HTTP requests",
    mode=Mode.HTTP,
    service=services.http,
    measure=http,
    note="strace -c on all the peer's processes, while wrk keeps them at work.",
    programs=("strace", "wrk", "nginx"),
)

BULK = replace(
    TCP,
    name="calls-bulk",
    title="System calls of bulk",
    service=services.iperf3,
    measure=bulk,
    note="strace -c on all the peer's processes, while iperf3 keeps one stream full.",
    programs=("strace", "iperf3"),
)
