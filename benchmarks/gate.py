"""The targets of ``targets.toml`` against what a run measured."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from benchmarks.model import BenchmarkError, Peer
from benchmarks.report import NOTHING, number, table
from benchmarks.runner import Results

TARGETS = Path(__file__).with_name("targets.toml")

EVERY_TUNNEL = "every tunnel"  # as a reference: each tunnel that is not ours, one by one


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a median of ours, or on its ratio to another median of the run.

    That is the same case of the peer ``reference``, or the case ``reference_case`` of ours; at most
    one of the two is set. Exactly one of ``least`` and ``most`` is.
    """

    what: str
    scenario: str
    case: str
    metric: str
    peer: str = "tunnelkit"
    reference: str | None = None
    reference_case: str | None = None
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if (self.least is None) == (self.most is None):
            raise BenchmarkError(f"target {self.what!r} needs one of least and most")
        if self.reference and self.reference_case:
            raise BenchmarkError(f"target {self.what!r} has two references")

    def met_by(self, value: float) -> bool:
        if self.least is not None:
            return value >= self.least
        return self.most is not None and value <= self.most

    def bound(self) -> str:
        sign, value = ("≥", self.least) if self.most is None else ("≤", self.most)
        reference = self.reference or self.reference_case
        return f"{sign} {value:g}" + (f" × {reference}" if reference else "")


class State(StrEnum):
    MET = "met"
    SHORT = "short"
    UNMEASURED = "not measured"  # and it should have been: as bad as short
    ABSENT = "peer missing"  # the peer it is measured by is not installed: bad for a release


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    state: State
    value: float | None = None

    def fails(self, *, release: bool) -> bool:
        return self.state in {State.SHORT, State.UNMEASURED} or (release and self.state is State.ABSENT)


def load(path: Path = TARGETS) -> list[Target]:
    """``BenchmarkError`` where the file is not what it should be."""
    try:
        entries = tomllib.loads(path.read_text())["target"]
        return [Target(**entry) for entry in entries]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise BenchmarkError(f"{path}: {error}") from error


def expand(targets: Iterable[Target], peers: Collection[Peer]) -> Iterator[Target]:
    """Those whose reference is every tunnel become one for each."""
    for target in targets:
        if target.reference != EVERY_TUNNEL:
            yield target
            continue
        for peer in peers:
            if peer.hops >= 2 and not peer.ours:
                yield replace(target, reference=peer.name)


def judge(
    targets: Iterable[Target],
    results: Results,
    scenarios: Collection[str],
    peers: Collection[str],
    *,
    release: bool = False,
) -> list[Verdict]:
    """A verdict on each target whose scenario and peers were asked for; for a release, on all of them."""
    return [
        _judge(target, results)
        for target in targets
        if release
        or (target.scenario in scenarios and {target.peer, target.reference or target.peer} <= set(peers))
    ]


def render(verdicts: Sequence[Verdict], *, release: bool = False) -> str:
    """The verdicts as a table, what fell short first."""
    ordered = sorted(verdicts, key=lambda verdict: not verdict.fails(release=release))
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
    value = results.median(target.scenario, target.case, target.peer, target.metric)
    if value is None:
        return Verdict(target, State.UNMEASURED)
    if target.reference or target.reference_case:
        reference = results.median(
            target.scenario,
            target.reference_case or target.case,
            target.reference or target.peer,
            target.metric,
        )
        if not reference:
            return Verdict(target, State.UNMEASURED)
        value /= reference
    return Verdict(target, State.MET if target.met_by(value) else State.SHORT, value)
