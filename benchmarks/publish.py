"""``python -m benchmarks.publish [DIR]``: put the figures of a run into the documentation.

With a directory that ``--out`` wrote, its results and pictures are first copied to
``docs/discussion/figures``. Then every table between two markers is rendered from what is there::

    <!-- figures: NAME WORDS… -->
    <!-- end of figures -->

``overview`` compares the highlights; ``machine`` says where and when; ``missing`` what was not
installed; ``case SCENARIO CASE`` is one table of the report; ``calls SCENARIO CASE`` the system calls
of ours by name. Exit status: 0; 1 where something is missing, or with ``--check`` out of date.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import plots, report
from benchmarks.model import BenchmarkError, Metric
from benchmarks.peers import PEERS
from benchmarks.processes import ROOT
from benchmarks.scenarios import SCENARIOS

FIGURES = ROOT / "docs" / "discussion" / "figures"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "discussion" / "performance.md")
OVERVIEW = "overview.png"

BLOCK = re.compile(
    r"(?P<start><!-- figures: (?P<words>[^\n]*) -->\n).*?(?P<end><!-- end of figures -->)", re.DOTALL
)


class Highlight(NamedTuple):
    """A row of the overview."""

    what: str
    scenario: str
    case: str
    metric: str


HIGHLIGHTS = (
    Highlight("HTTP/1.1, 32 kept-alive connections, requests/s", "http", "32 connections", "requests_s"),
    Highlight("HTTP/1.1, a new connection each, requests/s", "http-new", "32 at a time", "requests_s"),
    Highlight("new TCP connections/s", "tcp-new", "visitor closes", "connections_s"),
    Highlight("round trip of 64 bytes, p50, µs", "rtt", "64 bytes", "p50_us"),
    Highlight("one stream up, GB/s", "bulk", "1 stream up", "gb_s"),
    Highlight("one stream down, GB/s", "bulk", "1 stream down", "gb_s"),
    Highlight("CPU seconds a GB, up", "bulk", "1 stream up", "cpu_s_gb"),
    Highlight("memory of an idle open stream, kB", "idle", "2,000 streams", "pss_kb"),
    Highlight("memory of an idle agent at the relay, kB", "agents", "2,000 agents", "pss_kb"),
)
PICTURED = (0, 2, 3, 4, 5, 7)  # of the highlights

# Columns of the overview: equal security, and the yardstick that everybody knows.
COMPARED = ("direct", "tunnelkit", "haproxy")


class Figures:
    """The results of one run, rendered piece by piece."""

    def __init__(self, directory: Path) -> None:
        self.settings, self.about, self.results = report.read(directory / "results.json")
        self._blocks: dict[str, Callable[..., str]] = {
            "overview": self.overview,
            "machine": self.machine,
            "missing": self.missing,
            "case": self.case,
            "calls": self.calls,
        }

    def render(self, words: str) -> str:
        """The block that a marker names. ``BenchmarkError`` where there is none, or no result for it."""
        name, *arguments = shlex.split(words)
        if name not in self._blocks:
            raise BenchmarkError(f"no figures are named {name!r}; there are {', '.join(self._blocks)}")
        try:
            return self._blocks[name](*arguments)
        except TypeError as error:
            raise BenchmarkError(f"figures: {words}: {error}") from error

    def overview(self) -> str:
        head = [f"{self.about['started'][:10]}, {self.about['machine']['processor']}", *COMPARED]
        rows = []
        for highlight in HIGHLIGHTS:
            medians = [
                self.results.median(highlight.scenario, highlight.case, peer, highlight.metric)
                for peer in COMPARED
            ]
            cells = [report.number(value) if value else report.NOTHING for value in medians]
            cells[1] = f"**{cells[1]}**"
            rows.append([highlight.what, *cells])
        return report.table(head, rows, text=1)

    def machine(self) -> str:
        return f"{self.about['started']}. {report.machine(self.about)}"

    def missing(self) -> str:
        names = [name for name in PEERS if name in self.results.missing]
        return f"Not installed, so not measured: {', '.join(names)}." if names else "Every peer was measured."

    def case(self, scenario: str, case: str) -> str:
        self._find(scenario, case)
        return report.case_table(SCENARIOS[scenario], case, list(PEERS.values()), self.results)

    def calls(self, scenario: str, case: str) -> str:
        """System calls of relay and agent by name, most frequent first."""
        self._find(scenario, case)
        samples = [
            sample.metrics
            for sample in self.results.samples
            if (sample.scenario, sample.case, sample.peer) == (scenario, case, "tunnelkit")
        ]
        names = {name.partition(".")[2] for metrics in samples for name in metrics if "." in name}
        rows = []
        for name in names:
            relay, agent = (
                self.results.median(scenario, case, "tunnelkit", f"{part}.{name}") or 0.0 for part in (1, 2)
            )
            if max(relay, agent) >= 0.05:
                rows.append((relay + agent, [name, report.number(relay), report.number(agent)]))
        rows.sort(key=lambda row: (-row[0], row[1]))
        total = report.number(sum(count for count, _ in rows))
        return report.table(
            ["system call", "relay", "agent"], [*(row for _, row in rows), ["both", total, ""]], text=1
        )

    def pictures(self) -> None:
        """The overview's picture."""
        panels = [
            plots.Panel(row.what, SCENARIOS[row.scenario], row.case, _metric(row))
            for row in (HIGHLIGHTS[number] for number in PICTURED)
            if row.case in self.results.cases(row.scenario)
        ]
        if panels:
            plots.bars(FIGURES / OVERVIEW, "", panels, list(PEERS.values()), self.results)

    def _find(self, scenario: str, case: str) -> None:
        if case not in self.results.cases(scenario):
            raise BenchmarkError(f"nothing was measured for {scenario}, {case}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="what --out wrote")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where it would")
    options = parser.parse_args(arguments)
    try:
        if options.directory and not options.check:
            _copy(options.directory)
        figures = Figures(FIGURES)
        if options.directory and not options.check:
            figures.pictures()
        changed = [document for document in DOCUMENTS if _update(document, figures, write=not options.check)]
    except (BenchmarkError, OSError) as error:
        print(f"benchmarks.publish: {error}", file=sys.stderr)
        return 1
    for document in changed:
        print(f"{document.relative_to(ROOT)} {'is out of date' if options.check else 'is up to date now'}")
    return 1 if changed and options.check else 0


def _copy(directory: Path) -> None:
    """The results and pictures of a run, and nothing that an earlier one left."""
    report.read(directory / "results.json")  # before anything is removed
    if directory.resolve() == FIGURES:
        return
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    for path in sorted(directory.iterdir()):
        if path.name in {"results.json", "results.md"} or path.suffix == ".png":
            shutil.copy(path, FIGURES)


def _update(document: Path, figures: Figures, *, write: bool) -> bool:
    """Whether the document's figures were others."""
    before = document.read_text()
    after = BLOCK.sub(
        lambda block: f"{block['start']}{figures.render(block['words'])}\n{block['end']}", before
    )
    if write and after != before:
        document.write_text(after)
    return after != before


def _metric(row: Highlight) -> Metric:
    return next(metric for metric in SCENARIOS[row.scenario].metrics if metric.name == row.metric)


if __name__ == "__main__":
    sys.exit(main())
