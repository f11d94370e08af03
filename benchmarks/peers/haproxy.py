"""HAProxy as a reverse proxy of one hop, in its tcp or its http mode: the yardstick.

Master and worker as its packages run it, as many threads as cores, no logs. It opens its listener
before the worker is forked.
"""

from __future__ import annotations

from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, free_address

CONFIGURATION = """\
global
    maxconn 4500
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend visitors
    bind {public}
    default_backend service
backend service
    server service {service}
"""


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    public = free_address()
    text = CONFIGURATION.format(mode=mode, public=public, service=service)
    haproxy = launch.run("haproxy", "-W", "-f", launch.write("haproxy.cfg", text))
    haproxy.expect("Loading success")
    return public


PEER = Peer(
    name="haproxy",
    about="reverse proxy, one hop",
    security=Security.PLAIN,
    modes=frozenset(Mode),
    start=start,
    hops=1,
    quick=True,
    programs=("haproxy",),
    version=("haproxy", "-v"),
)
