"""socat, one hop, a process for each connection.

It says that it listens only when it is told to report every connection too, so its port is tried.
"""

from __future__ import annotations

from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, free_address


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    public = free_address()
    socat = launch.run(
        "socat",
        f"TCP4-LISTEN:{public.port},bind={public.host},reuseaddr,fork,nodelay,backlog=4096",
        f"TCP4:{service},nodelay",
    )
    socat.expect_listening(public)
    return public


PEER = Peer(
    name="socat",
    about="one hop, a process each",
    security=Security.PLAIN,
    modes=frozenset({Mode.TCP}),
    start=start,
    hops=1,
    programs=("socat",),
    version=("socat", "-V"),
)
