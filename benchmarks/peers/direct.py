"""Nothing between visitor and service: what the load and the service can do by themselves."""

from __future__ import annotations

from benchmarks.model import Address, Fleet, Mode, Peer, Security
from benchmarks.processes import Launcher
from benchmarks.stage import busy_program


def start(_launch: Launcher, _mode: Mode, service: Address) -> Address:
    return service


def fleet(_launch: Launcher, _mode: Mode, service: Address) -> Fleet:
    """The ceiling of every point of a curve: there is nothing to join."""
    return Fleet(service, lambda _launch, _agents, _tunnels: None)


def library(launch: Launcher, service: Address, busy: bool) -> Address:
    """The same program without a tunnel: what a core that it keeps busy costs everybody."""
    return busy_program(launch, service, "--direct", *(["--busy"] if busy else []))


PEER = Peer(
    name="direct",
    about="no tunnel",
    security=Security.PLAIN,
    modes=frozenset(Mode),
    start=start,
    hops=0,
    quick=True,
    fleet=fleet,
    library=library,
)
