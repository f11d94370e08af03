"""bore (https://github.com/ekzhang/bore#readme). Its control port is fixed.

It logs every connection below warnings; its server listens on a tunnel's port once the client has
asked for it, so that port is tried.
"""

from __future__ import annotations

import secrets

from benchmarks.model import LOOPBACK, Address, Mode, Peer, Security
from benchmarks.processes import Launcher, free_address

CONTROL = Address(LOOPBACK, 7835)


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    public = free_address()
    environment = {"BORE_SECRET": secrets.token_hex(16), "RUST_LOG": "warn"}
    server = launch.run(
        "bore", "server",
        "--bind-addr", CONTROL.host,
        "--min-port", str(public.port),
        "--max-port", str(public.port),
        env=environment,
    )  # fmt: skip
    server.expect_listening(CONTROL)
    client = launch.run(
        "bore", "local", str(service.port),
        "--local-host", service.host,
        "--to", CONTROL.host,
        "--port", str(public.port),
        env=environment,
    )  # fmt: skip
    client.expect_listening(public)
    return public


PEER = Peer(
    name="bore",
    about="a connection each way for each visitor",
    security=Security.PLAIN,
    modes=frozenset({Mode.TCP}),
    start=start,
    hops=2,
    programs=("bore",),
    version=("bore", "--version"),
)
