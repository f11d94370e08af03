"""Bytes a second, by iperf3."""

from __future__ import annotations

import json

from benchmarks import services
from benchmarks.model import BenchmarkError, Measured, Metric, Metrics, Mode, Scenario
from benchmarks.stage import Stage

GB = 1e9
STREAMS = (1, 8)
STREAMS_QUICK = (1,)
DIRECTIONS = {"up": [], "down": ["--reverse"]}


def parse_iperf3(text: str) -> tuple[float, float]:
    """GB received, and GB received a second, in the report of ``iperf3 --json``.

    ``BenchmarkError`` where it reports one.
    """
    report = json.loads(text)
    if "error" in report:
        raise BenchmarkError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    return received["bytes"] / GB, received["bits_per_second"] / 8 / GB


def iperf3(stage: Stage, streams: int, direction: str) -> Metrics:
    host, port = stage.address
    seconds = stage.settings.seconds
    command = [
        "iperf3", "--json",
        "--client", host,
        "--port", str(port),
        "--time", str(seconds),
        "--interval", "0",
        "--parallel", str(streams),
        "--length", "1M",  # its default of 128K makes the load the limit of the direct row
        *DIRECTIONS[direction],
    ]  # fmt: skip
    run = stage.run(command, seconds)
    received, rate = parse_iperf3(run.output)
    if not received:
        raise BenchmarkError("iperf3 received nothing")
    return {"gb_s": rate, "gb": received, "cpu_s_gb": run.peer_cpu / received, **run.busy()}


def measure(stage: Stage) -> Measured:
    for streams in STREAMS_QUICK if stage.settings.quick else STREAMS:
        for direction in DIRECTIONS:
            plural = "s" if streams > 1 else ""
            yield f"{streams} stream{plural} {direction}", iperf3(stage, streams, direction)


SCENARIO = Scenario(
    name="bulk",
    title="Bulk",
    mode=Mode.TCP,
    service=services.iperf3,
    measure=measure,
    metrics=(
        Metric("gb_s", "GB/s", spread=True),
        Metric("cpu_s_gb", "CPU s a GB", less=True),
        Metric("load_cores", "load, cores"),
        Metric("service_cores", "service, cores"),
    ),
    note="iperf3 on both sides, 1 MiB at a time; up is from the visitor to the service. 1 GB is 10⁹ bytes.",
    programs=("iperf3",),
)
