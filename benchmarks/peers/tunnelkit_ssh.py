"""tunnelkit's agent by SSH: at its own relay, and at an ``sshd`` that takes the relay's place."""

from __future__ import annotations

import getpass
import re

from benchmarks.model import LOOPBACK, PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.peers.openssh import serve as start_sshd
from benchmarks.peers.tunnelkit import ENVIRONMENT, command
from benchmarks.processes import Launcher, free_address


def start_relay(launch: Launcher, mode: Mode, service: Address) -> Address:
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
    if mode is Mode.HTTP:
        tunnel = ["http", str(service), "--name", name]
    else:
        tunnel = ["tcp", str(service), "--remote-port", str(public.port)]
    _agent(launch, tunnel, f"ssh://{listen}")
    return listen if mode is Mode.HTTP else public


def start_openssh(launch: Launcher, _mode: Mode, service: Address) -> Address:
    address = start_sshd(launch)
    url = _agent(launch, ["tcp", str(service)], f"ssh+openssh://{getpass.getuser()}@{address}")
    return Address(LOOPBACK, int(url.rpartition(":")[2]))


def _agent(launch: Launcher, tunnel: list[str], relay: str) -> str:
    """The public URL of a tunnel, once it is up."""
    shown = launch.run("ssh-keygen", "-l", "-f", str(launch.directory / "host_key.pub")).result(10)
    fingerprint = re.search(r"SHA256:\S+", shown)
    assert fingerprint is not None
    agent = launch.run(
        *command("agent"), *tunnel,
        "--relay", relay,
        "--identity-file", str(launch.directory / "user_key"),
        "--host-key", fingerprint[0],
        env=ENVIRONMENT,
    )  # fmt: skip
    return agent.expect(r"^\S+://\S+$")[0]


PEER = Peer(
    name="tunnelkit-ssh",
    about="relay and agent, ssh",
    security=Security.SSH,
    modes=frozenset(Mode),
    start=start_relay,
    programs=("ssh-keygen",),
    hops=2,
    version=(*command("version"), "--version"),
    ours=True,
)

OPENSSH = Peer(
    name="tunnelkit-sshd",
    about="sshd and agent",
    security=Security.SSH,
    modes=frozenset({Mode.TCP}),
    start=start_openssh,
    programs=("sshd", "ssh-keygen"),
    hops=2,
    version=(*command("version"), "--version"),
    ours=True,
)
