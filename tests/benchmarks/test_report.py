"""The tables that people read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.model import (
    Address,
    BenchmarkError,
    Measured,
    Metric,
    Mode,
    Peer,
    Sample,
    Scenario,
    Security,
    Settings,
)
from benchmarks.processes import Launcher
from benchmarks.runner import Results
from benchmarks.stage import Stage

ADDRESS = Address("127.0.0.1", 1)

ABOUT: dict[str, Any] = {
    "started": "2026-01-02T03:04:05+00:00",
    "machine": {
        "cores": 2,
        "processor": "a processor",
        "memory": "1 kB",
        "system": "a system",
        "kernel": "6.1",
        "python": "CPython 3.11",
        "loop": "asyncio",
        "load_and_services": {"wrk": "4.1.0"},
    },
    "peers": {"direct": {"version": None}, "haproxy": {"version": "2.6"}},
}


def start(_launch: Launcher, _mode: Mode, _service: Address) -> Address:
    return ADDRESS


def measure(_stage: Stage) -> Measured:
    yield "32", {}


def peer(name: str, security: Security = Security.PLAIN, *modes: Mode) -> Peer:
    ours = name.startswith("tunnelkit")
    return Peer(name, "one hop", security, frozenset(modes or Mode), start, hops=1, ours=ours)


SCENARIO = Scenario(
    name="http",
    title="Requests",
    mode=Mode.TCP,
    service=lambda _launch: ADDRESS,
    measure=measure,
    metrics=(Metric("requests_s", "requests/s", spread=True), Metric("cpu_us", "CPU µs")),
    note="A note.",
)
PEERS = [
    peer("tunnelkit"),
    peer("haproxy"),
    peer("ssh-R", Security.SSH),
    peer("frp-tls", Security.TLS),
    peer("tunnelkit-wss", Security.TLS),
    peer("frp"),
    peer("nginx", Security.PLAIN, Mode.HTTP),
]


def samples(name: str, *values: float) -> list[Sample]:
    return [
        Sample("http", "32", name, number, {"requests_s": value, "cpu_us": 3.0, "errors": 1})
        for number, value in enumerate(values, 1)
    ]


def render(results: Results) -> str:
    return report.render([SCENARIO], PEERS, Settings(), ABOUT, results)


def row(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.123, "0.12"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (999.4, "999"),
        (1234.0, "1,230"),
        (92_345.0, "92,300"),
        (-0.25, "-0.25"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_a_row_has_median_spread_and_our_ratio() -> None:
    text = render(Results(samples("tunnelkit", 50.0) + samples("haproxy", 300.0, 100.0, 200.0)))
    assert row(text, "haproxy") == [
        "haproxy (one hop)",
        "plain",
        "200 (100–300)",
        "3.00",
        "0.25",
    ]


def test_only_equal_security_is_compared() -> None:
    text = render(Results(samples("tunnelkit", 50.0) + samples("ssh-R", 10.0)))
    assert row(text, "ssh-R")[-1] == report.NOTHING
    assert row(text, "tunnelkit")[-1] == "1.00"


def test_each_level_has_a_row_of_ours_to_compare_with() -> None:
    measured = samples("tunnelkit", 50.0) + samples("tunnelkit-wss", 30.0) + samples("frp-tls", 10.0)
    text = render(Results(measured))
    assert row(text, "frp-tls")[-1] == "3.00"
    assert row(text, "tunnelkit-wss")[-1] == "1.00"


def test_who_is_not_measured_is_named() -> None:
    scenario = replace(SCENARIO, fits=lambda peer: peer.name != "frp")
    text = report.render([scenario], PEERS, Settings(), ABOUT, Results())
    assert "Not for this: frp." in text
    assert "Not for tcp: nginx." in text


def test_who_is_left_out_is_named() -> None:
    about = {**ABOUT, "left_out": ["nginx", "frp"]}
    text = report.render([SCENARIO], PEERS, Settings(), about, Results())
    assert "Not in the quick set: nginx, frp." in text


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    written = Results(
        samples=[*samples("tunnelkit", 50.0, 60.0), Sample("http", "", "frp", 1, {}, error="reset")],
        missing={"frp": "frps"},
        failed={"ssh-R": "denied"},
        interrupted=True,
    )
    report.write(tmp_path, Settings(rounds=2), ABOUT, written)
    settings, about, read = report.read(tmp_path / "results.json")
    assert (settings, about, read) == (Settings(rounds=2), ABOUT, written)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 2}'])
def test_what_are_no_results_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"results\.json"):
        report.read(path)


def test_nothing_is_dropped_silently() -> None:
    results = Results(
        samples=[
            *samples("tunnelkit", 50.0),
            Sample("http", "", "haproxy", 2, {}, error="connection reset"),
        ],
        missing={"frp": "frps, frpc"},
        failed={"ssh-R": "Permission denied"},
        interrupted=True,
    )
    text = render(results)
    assert "- frp: frps, frpc is not installed" in text
    assert "## Did not come up: ssh-R\n\n    Permission denied" in text
    assert "haproxy, round 2, failed:\n\n    connection reset" in text
    assert "Not for tcp: nginx." in text
    assert "tunnelkit: 1 failed connections or requests" in text
    assert "Interrupted" in text


def test_a_scenario_that_lacks_its_load_says_so() -> None:
    assert "Not measured: wrk is not installed." in render(Results(missing={"http": "wrk"}))


def test_what_else_kept_the_machine_busy_is_told() -> None:
    found = [Sample("http", "32", "a", n, {"other_cores": cores}) for n, cores in ((1, 0.5), (2, 1))]
    assert "kept 0.75 cores busy (0.50–1.00)" in render(Results(found))


def test_the_machine_and_the_versions_are_named() -> None:
    text = render(Results())
    assert "2 cores (a processor), 1 kB, a system, Linux 6.1, CPython 3.11, asyncio. " in text
    assert "wrk 4.1.0, haproxy 2.6." in text
