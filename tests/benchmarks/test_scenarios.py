"""What the trusted tools report is read right."""

from __future__ import annotations

import json

import pytest

from benchmarks.model import BenchmarkError, Settings
from benchmarks.peers import PEERS
from benchmarks.runner import run
from benchmarks.scenarios import growth, recovery
from benchmarks.scenarios.bulk import parse_iperf3
from benchmarks.scenarios.calls import parse_strace
from benchmarks.scenarios.http import parse_wrk

WRK = """\
Running 2s test @ http://127.0.0.1:20011/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   240.99us  383.63us  12.20ms   97.56%
    Req/Sec   166.55k    15.33k  186.51k    85.00%
  Latency Distribution
     50%  184.00us
     75%  199.00us
     90%  228.00us
     99%    1.86ms
  331529 requests in 2.00s, 50.58MB read
Requests/sec: 165690.01
Transfer/sec:     25.28MB
"""


def test_wrk_rate_and_latencies() -> None:
    assert parse_wrk(WRK) == {
        "requests": 331529,
        "requests_s": 165690.01,
        "p50_us": 184.0,
        "p90_us": 228.0,
        "p99_us": 1860.0,
        "errors": 0,
    }


def test_wrk_failures_of_every_kind_are_counted() -> None:
    failures = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
        "  Non-2xx or 3xx responses: 50000\nRequests/sec:"
    )
    assert parse_wrk(WRK.replace("Requests/sec:", failures))["errors"] == 54321


def test_wrk_without_a_rate_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_iperf3_counts_what_was_received() -> None:
    sums = {
        "sum_sent": {"bytes": 9e9, "bits_per_second": 9e9},
        "sum_received": {"bytes": 3e9, "bits_per_second": 8e9},
    }
    assert parse_iperf3(json.dumps({"end": sums})) == (3.0, 1.0)


def test_iperf3_says_what_went_wrong() -> None:
    with pytest.raises(BenchmarkError, match="the server is busy"):
        parse_iperf3('{"end": {}, "error": "error - the server is busy"}')


STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000200           2       100           epoll_wait
 30.00    0.000100           1        50         7 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000300           2       150         7 total
"""


def test_strace_counts_calls_whether_or_not_they_fail() -> None:
    assert parse_strace(STRACE) == {"epoll_wait": 100, "recvfrom": 50}


def test_strace_that_saw_nothing_counts_nothing() -> None:
    assert parse_strace("") == {}


@pytest.mark.parametrize(
    ("most", "counted"),
    [(1, [1]), (5, [1, 5]), (10, [1, 10]), (1000, [1, 10, 100, 1000]), (5000, [1, 10, 100, 1000, 5000])],
)
def test_a_curve_has_a_point_for_each_power_of_ten_and_its_end(most: int, counted: list[int]) -> None:
    assert growth.counts(most) == counted
    assert growth.ends(most, quick=True) == sorted({1, most})


def test_a_killed_relay_is_recovered_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAUSES", (0.0, 0.2))
    monkeypatch.setattr(recovery, "SETTLED", 0.0)
    results = run(
        [recovery.SCENARIO],
        [PEERS["tunnelkit"], PEERS["ssh-R"]],
        Settings(rounds=1),
        say=lambda _line: None,
        keep=lambda _results: None,
    )
    (sample,) = results.samples
    assert sample.error is None
    assert 0.2 < sample.metrics["away_s"] < 20
    trials = [value for name, value in sample.metrics.items() if name.startswith("s_after_")]
    assert len(trials) == 2
    assert sample.metrics["max_s"] == max(trials)
