"""``python -m benchmarks`` as it is called."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import proc
from benchmarks.__main__ import main
from tests.support.processes import Child, start_process

ROOT = Path(__file__).parents[2]


def benchmarks(*arguments: str) -> Child:
    return start_process([sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT)


def results_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The results of a run of a second a measurement."""
    command = [*arguments, "--rounds", "1", "--seconds", "1", "--out", str(tmp_path)]
    with benchmarks(*command) as run:
        assert run.wait(55) == 0, str(run)
    document: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
    assert document["failed"] == {}
    assert [sample["error"] for sample in document["samples"] if sample["error"]] == []
    return document


def measured(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(sample["scenario"], sample["peer"]) for sample in document["samples"]}


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [(["bulky"], "http, http-new, tcp-new"), (["--peer", "hapoxy"], "direct, tunnelkit, haproxy")],
)
def test_an_unknown_name_names_the_valid_ones(
    arguments: list[str], valid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert valid in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_a_count_is_a_count(count: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", count])
    assert ended.value.code == 2


@pytest.mark.needs("haproxy", "socat")
def test_tcp_peers_are_measured(tmp_path: Path) -> None:
    peers = ["direct", "haproxy", "socat"]
    document = results_of(
        tmp_path,
        *("tcp-new", "rtt", "idle", "--streams", "20", "--quick"),
        *(word for peer in peers for word in ("--peer", peer)),
    )
    assert measured(document) == {(s, p) for s in ("tcp-new", "rtt", "idle") for p in peers}
    assert document["machine"]["cores"] >= 1
    assert document["peers"]["haproxy"]["version"][0].isdigit()
    rates = {
        sample["peer"]: sample["metrics"] for sample in document["samples"] if sample["scenario"] == "tcp-new"
    }
    assert all(metrics["connections_s"] > 10 and not metrics["errors"] for metrics in rates.values())
    assert rates["haproxy"]["cpu_us"] > 0
    (idle,) = (
        s["metrics"] for s in document["samples"] if s["scenario"] == "idle" and s["peer"] == "haproxy"
    )
    assert idle["descriptors"] == 2


def test_a_release_is_a_gate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--release"])
    assert ended.value.code == 2
    assert "--gate" in capsys.readouterr().err


@pytest.mark.needs("wrk", "nginx", "strace")
def test_ours_is_measured_and_drawn(tmp_path: Path) -> None:
    scenarios = ["agents", "growth-tunnels", "growth-visitors", "busy", "calls-http"]
    document = results_of(
        tmp_path,
        *(*scenarios, "--quick", "--agents", "5", "--tunnels", "4", "--visitors", "3"),
        *("--peer", "tunnelkit"),
    )
    assert measured(document) == {(scenario, "tunnelkit") for scenario in scenarios}
    found = {(sample["scenario"], sample["case"]): sample["metrics"] for sample in document["samples"]}
    assert found["agents", "5 agents"]["descriptors"] >= 2
    assert found["growth-tunnels", "4 tunnels"]["count"] == 4
    assert found["growth-visitors", "3 visitors"]["pss_mb"] > 1
    assert found["busy", "the program is busy"]["p50_us"] > 0
    request = found["calls-http", "a request, 1 kept alive"]
    assert request["calls"] == pytest.approx(sum(count for name, count in request.items() if "." in name))
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{name}.png" for name in scenarios}


@pytest.mark.needs("ssh", "sshd")
def test_ssh_is_measured(tmp_path: Path) -> None:
    document = results_of(tmp_path, "rtt", "--peer", "ssh-R")
    assert measured(document) == {("rtt", "ssh-R")}


def test_an_interrupted_run_keeps_what_it_has_and_leaves_nothing_running(tmp_path: Path) -> None:
    options = ("--peer", "direct", "--seconds", "50", "--out", str(tmp_path))
    with benchmarks("rtt", *options) as run:
        while len(family := proc.families([run.pid])) < 3:  # itself, the echo service, the load
            assert run.running, str(run)
        run.signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert "Interrupted" in run.stdout
    assert [pid for pid in family if proc.start_time(pid)] == []
    assert json.loads((tmp_path / "results.json").read_text())["interrupted"] is True
