"""The targets of ``targets.toml`` against what a run measured."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.model import BenchmarkError
from benchmarks.report import NOTHING, OURS, number, table
from benchmarks.runner import Results
from benchmarks.spread import spread

TARGETS = Path(__file__).with_name("targets.toml")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a median of ours, or on its ratio to a peer's; exactly one of the two is set.

    ``subject`` is whose median, where it is not tunnelkit's own agent's.
    """

    what: str
    scenario: str
    case: str
    metric: str
    reference: str | None = None
    subject: str = OURS
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if (self.least is None) == (self.most is None):
            raise BenchmarkError(f"target {self.what!r} needs one of least and most")

    def met_by(self, value: float) -> bool:
        if self.least is not None:
            return value >= self.least
        return self.most is not None and value <= self.most

    def bound(self) -> str:
        sign, value = ("≥", self.least) if self.most is None else ("≤", self.most)
        return f"{sign} {value:g}" + (f" × {self.reference}" if self.reference else "")


class State(StrEnum):
    MET = "met"
    SHORT = "short"
    UNMEASURED = "not measured"  # and it should have been: as bad as short
    ABSENT = "peer missing"  # the peer it is measured by is not installed


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    state: State
    value: float | None = None

    @property
    def fails(self) -> bool:
        return self.state in {State.SHORT, State.UNMEASURED}


def load(path: Path = TARGETS) -> list[Target]:
    """``BenchmarkError`` where the file is not what it should be."""
    try:
        entries = tomllib.loads(path.read_text())["target"]
        return [Target(**entry) for entry in entries]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise BenchmarkError(f"{path}: {error}") from error


def judge(
    targets: Iterable[Target], results: Results, scenarios: Collection[str], peers: Collection[str]
) -> list[Verdict]:
    """A verdict on each target whose scenario and peers were asked for."""
    return [
        _judge(target, results)
        for target in targets
        if target.scenario in scenarios and {target.subject, target.reference or target.subject} <= set(peers)
    ]


def render(verdicts: Iterable[Verdict]) -> str:
    """The verdicts as a table, what fell short first."""
    ordered = sorted(verdicts, key=lambda verdict: not verdict.fails)
    rows = [
        [
            verdict.target.what,
            verdict.target.bound(),
            NOTHING if verdict.value is None else number(verdict.value),
            verdict.state,
        ]
        for verdict in ordered
    ]
    return table(["target", "bound", "measured", "verdict"], rows)


def _judge(target: Target, results: Results) -> Verdict:
    if target.reference in results.missing:
        return Verdict(target, State.ABSENT)
    ours = results.values(target.scenario, target.case, target.subject, target.metric)
    if not ours:
        return Verdict(target, State.UNMEASURED)
    value = spread(ours).median
    if target.reference is not None:
        theirs = results.values(target.scenario, target.case, target.reference, target.metric)
        if not theirs or not (reference := spread(theirs).median):
            return Verdict(target, State.UNMEASURED)
        value /= reference
    return Verdict(target, State.MET if target.met_by(value) else State.SHORT, value)
