"""tunnelkit's relay for a stock client: ``ssh -R``, with the ciphers the two agree on by themselves."""

from __future__ import annotations

from benchmarks.model import LOOPBACK, PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.peers.tunnelkit import ENVIRONMENT, command
from benchmarks.processes import Launcher, free_address


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    listen, public = free_address(), free_address()
    name, _, domain = PUBLIC_NAME.partition(".")
    for key in ("host_key", "user_key"):
        path = str(launch.directory / key)
        launch.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).result(10)
    relay = launch.run(
        *command("relay"), "serve",
        "--listen", str(listen),
        "--domain", domain,
        "--tcp-ports", f"{public.port}-{public.port}",
        "--ssh-host-key", str(launch.directory / "host_key"),
        "--authorized-keys", str(launch.directory / "user_key.pub"),
        env=ENVIRONMENT,
    )  # fmt: skip
    relay.expect("listening")
    forward = f"{name}:80:{service}" if mode is Mode.HTTP else f"{public.port}:{service}"
    client = launch.run(
        "ssh", "-F", "none",
        "-i", str(launch.directory / "user_key"),
        "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null",
        "-o", "ExitOnForwardFailure=yes",
        "-p", str(listen.port),
        "-R", forward,
        listen.host,
    )  # fmt: skip
    client.expect(r"^(http|tcp)://\S+$")
    return listen if mode is Mode.HTTP else Address(LOOPBACK, public.port)


PEER = Peer(
    name="tunnelkit-ssh-R",
    about="relay and ssh -R",
    security=Security.SSH,
    modes=frozenset(Mode),
    start=start,
    programs=("ssh", "ssh-keygen"),
    hops=2,
    version=(*command("version"), "--version"),
    ours=True,
)
