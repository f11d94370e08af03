"""Pictures are made of what there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import plots
from benchmarks.model import COUNT, Sample
from benchmarks.peers import PEERS
from benchmarks.runner import Results
from benchmarks.scenarios import SCENARIOS

PNG = b"\x89PNG\r\n\x1a\n"

# matplotlib is the dependencies' own affair.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def results() -> Results:
    """A bar chart's with a peer that has one round alone, and a curve's without memory for one."""
    bars = [
        Sample("rtt", "64 bytes", peer, number, {"p50_us": float(number * 10)})
        for peer, rounds in (("direct", 3), ("tunnelkit", 3), ("ssh-R", 1))
        for number in range(1, rounds + 1)
    ]
    curve = [
        Sample(
            "growth-tunnels", f"{count:,} tunnels", peer, 1, {COUNT: count, "requests_s": 5.0, "pss_mb": mb}
        )
        for count in (1, 5000)
        for peer, mb in (("direct", 0.0), ("tunnelkit", 50.0))
    ]
    return Results(samples=[*bars, *curve, Sample("bulk", "", "direct", 1, {}, error="reset")])


def write(directory: Path, found: Results) -> str:
    return plots.write(directory, list(SCENARIOS.values()), list(PEERS.values()), found)


def test_a_picture_for_each_scenario_that_was_measured(tmp_path: Path) -> None:
    assert str(tmp_path) in write(tmp_path, results())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["growth-tunnels.png", "rtt.png"]
    assert all(path.read_bytes().startswith(PNG) for path in tmp_path.iterdir())


def test_without_matplotlib_there_are_no_pictures_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert write(tmp_path, results()) == "No plots: matplotlib is not installed."
    assert list(tmp_path.iterdir()) == []
