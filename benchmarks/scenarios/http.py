"""HTTP requests a second, on connections that are kept alive and on new ones, by wrk."""

from __future__ import annotations

import re

from benchmarks import services
from benchmarks.model import PUBLIC_NAME, BenchmarkError, Measured, Metric, Metrics, Mode, Scenario
from benchmarks.stage import Stage

WARM_UP = 1  # seconds, wrk's shortest
CONNECTIONS = (1, 32, 256)
CONNECTIONS_QUICK = (32,)

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}

METRICS = (
    Metric("requests_s", "requests/s", spread=True),
    Metric("p50_us", "p50 µs"),
    Metric("p99_us", "p99 µs"),
    Metric("cpu_us", "CPU µs a request"),
    Metric("load_cores", "load, cores"),
    Metric("service_cores", "service, cores"),
)


def parse_wrk(text: str) -> dict[str, float]:
    """Requests, their rate, latencies in µs and failures in the report of ``wrk --latency``.

    ``BenchmarkError`` where there is no rate.
    """
    latencies = dict(re.findall(r"^\s+(50|99)%\s+(\S+)$", text, re.MULTILINE))
    done = re.search(r"^\s*(\d+) requests in ", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)$", text, re.MULTILINE)
    if done is None or rate is None or len(latencies) < 2:
        raise BenchmarkError(f"wrk reported no rate:\n{text}")
    failures = re.search(r"^\s+Socket errors: (.+)$", text, re.MULTILINE)
    refused = re.search(r"^\s+Non-2xx or 3xx responses: (\d+)$", text, re.MULTILINE)
    return {
        "requests": float(done[1]),
        "requests_s": float(rate[1]),
        "p50_us": _microseconds(latencies["50"]),
        "p99_us": _microseconds(latencies["99"]),
        "errors": sum(map(float, re.findall(r"\d+", failures[1] if failures else "")))
        + float(refused[1] if refused else 0),
    }


def _microseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    if match is None:
        raise BenchmarkError(f"wrk reported no latency: {text}")
    return float(match[1]) * MICROSECONDS[match[2]]


def _wrk(stage: Stage, connections: int, *options: str) -> Metrics:
    # One thread is enough for twice what one nginx worker answers, and leaves a core to the rest.
    def command(seconds: int) -> list[str]:
        return [
            "wrk", "--latency", "--threads", "1",
            "--connections", str(connections),
            "--duration", f"{seconds}s",
            "--timeout", "5s",
            "--header", f"Host: {PUBLIC_NAME}",
            *options,
            f"http://{stage.address}/",
        ]  # fmt: skip

    stage.run(command(WARM_UP), WARM_UP)
    run = stage.run(command(stage.settings.seconds), stage.settings.seconds)
    metrics = parse_wrk(run.output)
    if not metrics["requests"]:
        raise BenchmarkError(f"no request was answered:\n{run.output}")
    return {**metrics, "cpu_us": run.peer_cpu / metrics["requests"] * 1e6, **run.busy()}


def keep_alive(stage: Stage) -> Measured:
    for connections in CONNECTIONS_QUICK if stage.settings.quick else CONNECTIONS:
        plural = "s" if connections > 1 else ""
        yield f"{connections} connection{plural}", _wrk(stage, connections)


def new(stage: Stage) -> Measured:
    yield "32 at a time", _wrk(stage, 32, "--header", "Connection: close")


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
)
