"""sish with OpenSSH's client (https://docs.ssi.sh/cli).

Its default cuts connections that are idle for 5 s, which would end what the idle scenario holds open;
that is turned off. It opens a tunnel once ssh has asked, which is seen from outside.
"""

from __future__ import annotations

from benchmarks.model import LOOPBACK, PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.processes import Launcher, free_address

NAME, _, DOMAIN = PUBLIC_NAME.partition(".")


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    listen, http, public = free_address(), free_address(), free_address()
    keys = launch.directory / "keys"
    keys.mkdir()
    server = launch.run(
        "sish",
        f"--ssh-address={listen}",
        f"--http-address={http}",
        f"--tcp-address={LOOPBACK}",
        "--force-tcp-address",
        "--localhost-as-all=false",
        f"--domain={DOMAIN}",
        f"--private-keys-directory={keys}",
        "--authentication=false",
        "--bind-random-ports=false",
        "--bind-random-subdomains=false",
        "--idle-connection=false",
        "--load-templates=false",
        "--log-to-stdout=false",
        "--verify-dns=false",
    )
    server.expect_listening(listen)
    remote = f"{NAME}:80" if mode is Mode.HTTP else str(public.port)
    client = launch.run(
        "ssh", "-N", "-F", "none",
        "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null",
        "-o", "ExitOnForwardFailure=yes",
        "-p", str(listen.port),
        "-R", f"{remote}:{service}",
        f"benchmark@{listen.host}",
    )  # fmt: skip
    if mode is Mode.HTTP:
        client.expect_answer(http, host=PUBLIC_NAME)
        return http
    client.expect_listening(public)
    return public


PEER = Peer(
    name="sish",
    about="an SSH server of its own, and ssh -R",
    security=Security.SSH,
    modes=frozenset(Mode),
    start=start,
    hops=2,
    programs=("sish", "ssh"),
    version=("sish", "--version"),
)
