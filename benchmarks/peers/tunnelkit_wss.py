"""tunnelkit's relay and agent over ``wss://``. Visitors come plain, as they do to the others: TLS is
between the two ends."""

from __future__ import annotations

from benchmarks.certificates import certificate
from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.peers.tunnelkit import command, start_agent, start_relay
from benchmarks.processes import Launcher


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    cert, key = certificate(launch)
    relay = start_relay(
        launch,
        "wss",
        relay_options=["--tls-cert", cert, "--tls-key", key, "--plain-http"],
        agent_options=["--ca", cert],
    )
    return start_agent(launch, relay, mode, service)


PEER = Peer(
    name="tunnelkit-wss",
    about="relay and agent, wss",
    security=Security.TLS,
    modes=frozenset(Mode),
    start=start,
    programs=("openssl",),
    hops=2,
    version=(*command("version"), "--version"),
    ours=True,
)
