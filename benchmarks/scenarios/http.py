"""HTTP requests a second, on connections that are kept alive and on new ones, by wrk."""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks import services
from benchmarks.model import (
    PUBLIC_NAME,
    Address,
    BenchmarkError,
    Measured,
    Metric,
    Metrics,
    Mode,
    Scenario,
)
from benchmarks.stage import Stage

WARM_UP = 1  # seconds, wrk's shortest
CONNECTIONS = (1, 32, 256)
CONNECTIONS_QUICK = (32,)

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}

PERCENTILES = (50, 90, 99)  # of those that wrk prints

METRICS = (
    Metric("requests_s", "requests/s", spread=True),
    *(Metric(f"p{percent}_us", f"p{percent} µs", less=True) for percent in PERCENTILES),
    Metric("cpu_us", "CPU µs a request", less=True),
    Metric("system_us", "of which kernel", less=True),
    Metric("load_cores", "load, cores"),
    Metric("service_cores", "service, cores"),
)


def parse_wrk(text: str) -> dict[str, float]:
    """Requests, their rate, latencies in µs and failures in the report of ``wrk --latency``.

    ``BenchmarkError`` where there is no rate.
    """
    latencies = dict(re.findall(r"^\s+(\d+)%\s+(\S+)$", text, re.MULTILINE))
    done = re.search(r"^\s*(\d+) requests in ", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)$", text, re.MULTILINE)
    if done is None or rate is None or not {str(p) for p in PERCENTILES} <= latencies.keys():
        raise BenchmarkError(f"wrk reported no rate:\n{text}")
    failures = re.search(r"^\s+Socket errors: (.+)$", text, re.MULTILINE)
    refused = re.search(r"^\s+Non-2xx or 3xx responses: (\d+)$", text, re.MULTILINE)
    return {
        "requests": float(done[1]),
        "requests_s": float(rate[1]),
        **{f"p{percent}_us": _microseconds(latencies[str(percent)]) for percent in PERCENTILES},
        "errors": sum(map(float, re.findall(r"\d+", failures[1] if failures else "")))
        + float(refused[1] if refused else 0),
    }


def _microseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    if match is None:
        raise BenchmarkError(f"wrk reported no latency: {text}")
    return float(match[1]) * MICROSECONDS[match[2]]


def wrk(
    stage: Stage,
    address: Address,
    connections: int,
    *options: str,
    warm_up: bool = True,
    halfway: Callable[[], None] | None = None,
) -> Metrics:
    """Requests for ``stage.settings.seconds``, each with the tunnel's name as its Host."""

    # One thread is enough for twice what one nginx worker answers, and leaves a core to the rest.
    def command(seconds: int) -> list[str]:
        return [
            "wrk", "--latency", "--threads", "1",
            "--connections", str(connections),
            "--duration", f"{seconds}s",
            "--timeout", "5s",
            "--header", f"Host: {PUBLIC_NAME}",
            *options,
            f"http://{address}/",
        ]  # fmt: skip

    if warm_up:
        stage.run(command(WARM_UP), WARM_UP)
    run = stage.run(command(stage.settings.seconds), stage.settings.seconds, halfway)
    metrics = parse_wrk(run.output)
    if not metrics["requests"]:
        raise BenchmarkError(f"no request was answered:\n{run.output}")
    return {**metrics, **run.cost(metrics["requests"]), **run.busy()}


def keep_alive(stage: Stage) -> Measured:
    for connections in CONNECTIONS_QUICK if stage.settings.quick else CONNECTIONS:
        plural = "s" if connections > 1 else ""
        yield f"{connections} connection{plural}", wrk(stage, stage.address, connections)


def new(stage: Stage) -> Measured:
    yield "32 at a time", wrk(stage, stage.address, 32, "--header", "Connection: close")


KEEP_ALIVE = Scenario(
    name="http",
    title="HTTP/1.1, keep-alive",
    mode=Mode.HTTP,
    service=services.http,
    measure=keep_alive,
    metrics=METRICS,
    note="wrk (one thread) → peer → nginx (one worker) answering 28 bytes. Peers without an HTTP "
    "mode carry it as TCP.",
    programs=("wrk", "nginx"),
)

NEW = Scenario(
    name="http-new",
    title="HTTP/1.1, a new connection for each request",
    mode=Mode.HTTP,
    service=services.http,
    measure=new,
    metrics=METRICS,
    note="As above with `Connection: close`. Peers with an HTTP mode keep their connections to the "
    "service open.",
    programs=("wrk", "nginx"),
    quick=0,
)
