"""chisel with a reverse remote: SSH inside a WebSocket (https://github.com/jpillora/chisel#usage).

The server listens on a reverse remote's port once the client has asked for it.
"""

from __future__ import annotations

import secrets

from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    listen, public = free_address(), free_address()
    environment = {"AUTH": f"benchmark:{secrets.token_hex(16)}"}  # read by both ends

    def relay() -> Process:
        server = launch.run(
            "chisel", "server", "--reverse",
            "--host", listen.host,
            "--port", str(listen.port),
            env=environment,
        )  # fmt: skip
        server.expect_listening(listen)
        return server

    launch.serve(relay)
    client = launch.run("chisel", "client", f"http://{listen}", f"R:{public}:{service}", env=environment)
    client.expect_listening(public)
    return public


PEER = Peer(
    name="chisel",
    about="SSH in a WebSocket",
    security=Security.SSH,
    modes=frozenset({Mode.TCP}),
    start=start,
    hops=2,
    programs=("chisel",),
    version=("chisel", "--version"),
    reconnects=True,
)
