"""wstunnel with a reverse tunnel, over ws:// and over wss:// with the certificate that it brings along
(https://github.com/erebe/wstunnel#reverse-tunneling).

It logs every connection below warnings; its server listens on a reverse tunnel's port once the
client has asked for it, so that port is tried.
"""

from __future__ import annotations

from functools import partial

from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address

ENVIRONMENT = {"RUST_LOG": "warn"}


def start(launch: Launcher, _mode: Mode, service: Address, *, scheme: str) -> Address:
    listen, public = free_address(), free_address()
    url = f"{scheme}://{listen}"

    def relay() -> Process:
        server = launch.run("wstunnel", "server", url, env=ENVIRONMENT)
        server.expect_listening(listen)
        return server

    launch.serve(relay)
    client = launch.run("wstunnel", "client", "-R", f"tcp://{public}:{service}", url, env=ENVIRONMENT)
    client.expect_listening(public)
    return public


def _peer(name: str, scheme: str, security: Security) -> Peer:
    return Peer(
        name=name,
        about=f"a connection for each visitor, {scheme}",
        security=security,
        modes=frozenset({Mode.TCP}),
        start=partial(start, scheme=scheme),
        hops=2,
        programs=("wstunnel",),
        version=("wstunnel", "--version"),
        reconnects=True,
    )


WS = _peer("wstunnel", "ws", Security.PLAIN)
WSS = _peer("wstunnel-wss", "wss", Security.TLS)
