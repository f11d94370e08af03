"""The documentation's figures are those of the results beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import publish, report
from benchmarks.model import BenchmarkError, Sample, Settings
from benchmarks.runner import Results

ABOUT = {
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
    "peers": {"direct": {"version": None}},
}
CALLS = {"calls": 5.0, "1.epoll_wait": 1.0, "1.recvfrom": 2.0, "2.epoll_wait": 1.9, "2.brk": 0.01}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """What ``--out`` wrote."""
    directory = tmp_path / "out"
    directory.mkdir()
    samples = [
        *(
            Sample("rtt", "64 bytes", peer, 1, {"p50_us": us})
            for peer, us in (("direct", 20), ("tunnelkit", 99))
        ),
        Sample("calls", "an idle second", "tunnelkit", 1, CALLS),
    ]
    report.write(directory, Settings(), ABOUT, Results(samples=samples, missing={"frp": "frps, frpc"}))
    (directory / "rtt.png").write_bytes(b"PNG")
    return directory


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "document.md"
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(publish, "DOCUMENTS", (path,))
    return path


def block(words: str) -> str:
    return f"before\n<!-- figures: {words} -->\nold\n<!-- end of figures -->\nafter\n"


def test_figures_take_their_places(measured: Path, document: Path, tmp_path: Path) -> None:
    document.write_text(block("overview") + block('case rtt "64 bytes"'))
    assert publish.main([str(measured)]) == 0
    text = document.read_text()
    assert text.count("before\n") == text.count("\nafter") == 2
    assert "old" not in text
    assert "| round trip of 64 bytes, p50, µs" in text
    assert "**99.0**" in text
    assert "| tunnelkit (relay and agent, ws) | plain" in text
    pictures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert pictures == ["overview.png", "results.json", "rtt.png"]


def test_figures_are_checked(measured: Path, document: Path) -> None:
    document.write_text(block("machine"))
    assert publish.main([str(measured)]) == 0
    assert publish.main(["--check"]) == 0
    document.write_text(document.read_text().replace("a processor", "a better one"))
    assert publish.main(["--check"]) == 1
    assert "a better one" in document.read_text()


def test_calls_are_told_apart_by_process(measured: Path) -> None:
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in publish.Figures(measured).render('calls calls "an idle second"').splitlines()[2:]
    ]
    assert rows == [["epoll_wait", "1.00", "1.90"], ["recvfrom", "2.00", "0"], ["both", "4.90", ""]]


def test_what_was_missing_is_named(measured: Path) -> None:
    assert publish.Figures(measured).render("missing").endswith("frp.")


@pytest.mark.parametrize("words", ["overvieu", "case", 'case rtt "65 bytes"', "case bulk up down"])
def test_a_marker_that_names_nothing_is_an_error(words: str, measured: Path) -> None:
    with pytest.raises(BenchmarkError):
        publish.Figures(measured).render(words)


def test_what_are_no_results_replaces_nothing(measured: Path, document: Path, tmp_path: Path) -> None:
    document.write_text(block("machine"))
    assert publish.main([str(measured)]) == 0
    (measured / "results.json").write_text("{}")
    assert publish.main([str(measured)]) == 1
    assert (tmp_path / "figures" / "results.json").exists()


def test_the_documentation_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main(["--check"]) == 0, capsys.readouterr()
