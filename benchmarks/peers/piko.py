"""Piko: a server, an agent and, for TCP, the forwarder that its visitors need
(https://github.com/andydunstall/piko/blob/main/docs/tutorials/tcp-forwarding.md).

The forwarder listens at once; the server's status names an endpoint once its agent is connected.
"""

from __future__ import annotations

from benchmarks.model import PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address

ENDPOINT = PUBLIC_NAME.partition(".")[0]  # it goes by the first label of Host
QUIET = "--log.level=warn"


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    proxy, upstream, admin, gossip, agent, public = (free_address() for _ in range(6))

    def relay() -> Process:
        server = launch.run(
            "piko", "server", QUIET,
            "--proxy.bind-addr", str(proxy),
            "--proxy.access-log.disable",
            "--upstream.bind-addr", str(upstream),
            "--admin.bind-addr", str(admin),
            "--cluster.gossip.bind-addr", str(gossip),
        )  # fmt: skip
        server.expect_listening(upstream)
        return server

    launch.serve(relay)
    client = launch.run(
        "piko", "agent", str(mode), ENDPOINT, str(service), QUIET,
        "--connect.url", f"http://{upstream}",
        "--server.bind-addr", str(agent),
    )  # fmt: skip
    client.expect_answer(admin, "/status/upstream/endpoints", containing=ENDPOINT)
    if mode is Mode.HTTP:
        return proxy
    forward = launch.run(
        "piko", "forward", "tcp", str(public), ENDPOINT, QUIET, "--connect.url", f"http://{proxy}"
    )
    forward.expect_listening(public)
    return public


PEER = Peer(
    name="piko",
    about="HTTP, or TCP through its forwarder",
    security=Security.PLAIN,
    modes=frozenset(Mode),
    start=start,
    hops=2,
    programs=("piko",),
    version=("piko", "--version"),
    reconnects=True,
)
