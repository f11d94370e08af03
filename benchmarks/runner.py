"""Rounds: every peer in turn, then every peer again, each on a fresh start of service and peer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.model import (
    BenchmarkError,
    Measured,
    Mode,
    Peer,
    Sample,
    Scenario,
    Settings,
)
from benchmarks.processes import Launcher, find
from benchmarks.spread import spread
from benchmarks.stage import Stage


class StartError(BenchmarkError):
    """A peer did not come up."""


@dataclass(slots=True)
class Results:
    """What a run has measured so far, and what it could not."""

    samples: list[Sample] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # peer or scenario: what it lacks
    failed: dict[str, str] = field(default_factory=dict)  # peer: what it said instead of coming up
    interrupted: bool = False

    @property
    def measured(self) -> bool:
        """Whether there is anything."""
        return any(sample.error is None for sample in self.samples)

    def cases(self, scenario: str) -> list[str]:
        """The cases of a scenario in the order in which they were first measured."""
        measured = (sample for sample in self.samples if sample.scenario == scenario)
        return list(dict.fromkeys(sample.case for sample in measured if sample.error is None))

    def values(self, scenario: str, case: str, peer: str, metric: str) -> list[float]:
        """One value a round."""
        return [
            sample.metrics[metric]
            for sample in self.samples
            if (sample.scenario, sample.case, sample.peer) == (scenario, case, peer)
            and metric in sample.metrics
        ]

    def median(self, scenario: str, case: str, peer: str, metric: str) -> float | None:
        """Of all rounds; None where there is none."""
        values = self.values(scenario, case, peer, metric)
        return spread(values).median if values else None

    def errors(self, scenario: str) -> list[Sample]:
        """The samples of a scenario that could not be taken."""
        return [s for s in self.samples if s.scenario == scenario and s.error is not None]


def run(
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    settings: Settings,
    say: Callable[[str], None],
    keep: Callable[[Results], None],
) -> Results:
    """Measure. An interrupt ends it early and keeps what has been measured.

    ``keep`` gets what there is after each round, so that not even a crash loses more than one.
    """
    results = Results()
    present = [peer for peer in peers if _has(peer.name, peer.programs, results)]
    try:
        for scenario in scenarios:
            if not _has(scenario.name, scenario.programs, results):
                continue
            rounds = settings.rounds_of(scenario)
            for number in range(1, rounds + 1):
                for peer in present:
                    if scenario.takes(peer) and peer.name not in results.failed:
                        say(f"{scenario.name}, round {number} of {rounds}: {peer.name}")
                        _sample(scenario, peer, settings, number, results)
                keep(results)
    except KeyboardInterrupt:
        results.interrupted = True
    return results


def _has(name: str, programs: Sequence[str], results: Results) -> bool:
    absent = [program for program in programs if find(program) is None]
    if absent:
        results.missing[name] = ", ".join(absent)
    return not absent


def _sample(scenario: Scenario, peer: Peer, settings: Settings, number: int, results: Results) -> None:
    """Take one peer's samples of one round; what goes wrong becomes part of the results."""
    try:
        with contextlib.closing(_measure(scenario, peer, settings)) as measured:
            for case, metrics in measured:
                results.samples.append(Sample(scenario.name, case, peer.name, number, metrics))
    except StartError as error:
        results.failed[peer.name] = str(error)
    except (BenchmarkError, OSError, ValueError) as error:
        results.samples.append(
            Sample(scenario.name, "", peer.name, number, {}, error=str(error) or repr(error))
        )


def _measure(scenario: Scenario, peer: Peer, settings: Settings) -> Measured:
    """Start service and peer, measure, and end all of it."""
    with (
        _cores(1 if scenario.one_core else None),
        Launcher() as service,
        Launcher() as launched,
        Launcher() as load,
    ):
        behind = scenario.service(service)
        try:
            mode = peer.mode_for(scenario.mode) or Mode.TCP
            address = peer.start(launched, mode, behind) if scenario.starts else behind
        except BenchmarkError as error:
            raise StartError(_with_output(error, launched)) from error
        try:
            yield from scenario.measure(Stage(address, peer, settings, launched, service, load))
        except BenchmarkError as error:
            raise BenchmarkError(_with_output(error, launched)) from error


def _with_output(error: BenchmarkError, launched: Launcher) -> str:
    """The error, and what all of the peer's processes wrote: either of two can know the cause."""
    others = [text for text in launched.describe() if text not in str(error)]
    return "\n".join([str(error), *others])


@contextlib.contextmanager
def _cores(count: int | None) -> Iterator[None]:
    """Keep this process, and all that it starts meanwhile, to that many cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
