"""Nothing between visitor and service: what the load and the service can do by themselves."""

from __future__ import annotations

from benchmarks.model import Address, Mode, Peer
from benchmarks.processes import Launcher


def start(_launch: Launcher, _mode: Mode, service: Address) -> Address:
    return service


PEER = Peer(
    name="direct",
    about="no tunnel",
    security="plain",
    modes=frozenset(Mode),
    start=start,
)
