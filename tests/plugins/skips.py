"""Under ``CI=true`` a skipped test fails the run, unless ``tests/skips.txt`` expects it.

A line of that file is a node id, with or without its parameters, or a reason word for word.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

EXPECTED = Path("tests/skips.txt")


class SkipGate:
    """Collects the skips that nobody expected."""

    def __init__(self, expected: frozenset[str]) -> None:
        self.expected = expected
        self.surplus: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        names = {report.nodeid, report.nodeid.partition("[")[0], reason}
        if not names & self.expected:
            self.surplus.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.surplus and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.surplus:
            return
        terminalreporter.section(f"skips that {EXPECTED} does not expect", red=True)
        for line in self.surplus:
            terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipGate(_read(config.rootpath / EXPECTED)))


def _read(path: Path) -> frozenset[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return frozenset(line for line in lines if line)
