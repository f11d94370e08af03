"""The words of the harness: an address, a peer, a metric, a scenario, a sample."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.processes import Launcher
    from benchmarks.stage import Stage

LOOPBACK = "127.0.0.1"

# What visitors ask for in every row, so that every peer gets the same requests.
PUBLIC_NAME = "app.tunnels.test"


class BenchmarkError(Exception):
    """Something could not be started or measured; the message holds what the process said."""


class Mode(StrEnum):
    """What a peer is told that it carries."""

    HTTP = "http"
    TCP = "tcp"


class Security(StrEnum):
    """What an observer of the bytes between a peer's two ends is up against."""

    PLAIN = "plain"
    TLS = "TLS"
    SSH = "SSH"
    NOISE = "Noise"


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Fleet(NamedTuple):
    """A relay that further agents can be put on."""

    address: Address
    """Where visitors of the first agent's tunnel connect."""
    join: Callable[[Launcher, int, int], None]
    """``join(launch, agents, tunnels)``: start that many agents with that many tunnels each, and wait
    until all of them are up."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way for a visitor to reach a service.

    ``start`` starts it in front of the service and returns where visitors connect, once they can.
    ``version`` is the command that names the version.
    """

    name: str
    about: str
    security: Security
    modes: frozenset[Mode]
    start: Callable[[Launcher, Mode, Address], Address]
    hops: int
    """Processes on a visitor's way; from two on it is a tunnel."""
    programs: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    ours: bool = False
    quick: bool = False
    """Part of the quick set, where the peers are not named."""
    reconnects: bool = False
    """Whether its agent comes back by itself; its ``start`` then gives its relay to ``Launcher.serve``."""
    fleet: Callable[[Launcher, Mode, Address], Fleet] | None = None
    """Like ``start``, for scenarios that add agents."""
    library: Callable[[Launcher, Address, bool], Address] | None = None
    """Starts a program that opens a TCP tunnel in one call of a library, and is busy or waits."""

    def mode_for(self, wanted: Mode) -> Mode | None:
        """The mode to start it in; HTTP can be carried as TCP, but not the other way round."""
        return next((mode for mode in (wanted, Mode.TCP) if mode in self.modes), None)


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; ``spread`` shows the lowest and highest round beside the median."""

    name: str
    title: str
    spread: bool = False
    less: bool = False
    """Whether less is better."""


Metrics = Mapping[str, float]

# The metrics of each case, as they are measured.
Measured = Generator[tuple[str, Metrics]]

# The metric that a growth curve is drawn over.
COUNT = "count"


def _any(_peer: Peer) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured. The first metric is the one that ratios are taken of.

    ``measure`` yields the metrics of each case, all of them on one set-up of service and peer.
    """

    name: str
    title: str
    mode: Mode
    service: Callable[[Launcher], Address]
    measure: Callable[[Stage], Measured]
    metrics: tuple[Metric, ...]
    note: str
    programs: tuple[str, ...] = ()
    one_core: bool = False
    rounds: int = 5
    quick: int = 3
    """Rounds in the quick set; 0: not part of it."""
    fits: Callable[[Peer], bool] = _any
    """Which peers can be measured, apart from the mode."""
    starts: bool = True
    """Whether the peer is started for it; otherwise ``measure`` does it, on the service's address."""
    curve: str = ""
    """What is counted, where the cases are the points of a growth curve."""

    def takes(self, peer: Peer) -> bool:
        return peer.mode_for(self.mode) is not None and self.fits(peer)


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured. ``seconds`` is the length of one measurement, the rest are counts."""

    rounds: int | None = None
    """None: as many as each scenario says."""
    seconds: int = 3
    streams: int = 2000
    """Idle streams held open."""
    agents: int = 2000
    """Idle agents on one relay."""
    tunnels: int = 5000
    """Registered tunnels at the end of the growth curve."""
    visitors: int = 1000
    """Visitors at once at the end of theirs."""
    quick: bool = False

    def rounds_of(self, scenario: Scenario) -> int:
        return self.rounds or (scenario.quick or 1 if self.quick else scenario.rounds)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one peer did in one case of one round, or the error that kept it from being measured."""

    scenario: str
    case: str
    peer: str
    round: int
    metrics: Metrics
    error: str | None = None
