"""rathole over TCP and over Noise (https://github.com/rathole-org/rathole#configuration).

At its default level it logs connections; its server listens on a service's port once a client has
come for it, so that port is tried.
"""

from __future__ import annotations

import re
import secrets
from functools import partial

from benchmarks.model import Address, BenchmarkError, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address

SERVER = """\
[server]
bind_addr = "{listen}"
default_token = "{token}"
[server.services.service]
bind_addr = "{public}"
"""
CLIENT = """\
[client]
remote_addr = "{listen}"
default_token = "{token}"
[client.services.service]
local_addr = "{service}"
"""
NOISE = """\
[{side}.transport]
type = "noise"
[{side}.transport.noise]
{whose}_key = "{key}"
"""

ENVIRONMENT = {"RUST_LOG": "warn"}


def start(launch: Launcher, _mode: Mode, service: Address, *, noise: bool) -> Address:
    listen, public = free_address(), free_address()
    token = secrets.token_hex(16)
    server = SERVER.format(listen=listen, public=public, token=token)
    client = CLIENT.format(listen=listen, service=service, token=token)
    if noise:
        private, its_public = _keys(launch)
        server += NOISE.format(side="server", whose="local_private", key=private)
        client += NOISE.format(side="client", whose="remote_public", key=its_public)

    def relay() -> Process:
        process = launch.run("rathole", "--server", launch.write("server.toml", server), env=ENVIRONMENT)
        process.expect_listening(listen)
        return process

    launch.serve(relay)
    agent = launch.run("rathole", "--client", launch.write("client.toml", client), env=ENVIRONMENT)
    agent.expect_listening(public)
    return public


def _keys(launch: Launcher) -> tuple[str, str]:
    """A private key and its public one."""
    text = launch.run("rathole", "--genkey").result(10)
    keys = re.findall(r"^[\w+/]+=*$", text, re.MULTILINE)
    if len(keys) != 2:
        raise BenchmarkError(f"rathole --genkey printed no two keys:\n{text}")
    return keys[0], keys[1]


def _peer(name: str, about: str, security: Security, *, noise: bool) -> Peer:
    return Peer(
        name=name,
        about=about,
        security=security,
        modes=frozenset({Mode.TCP}),
        start=partial(start, noise=noise),
        hops=2,
        programs=("rathole",),
        version=("rathole", "--version"),
        reconnects=True,
    )


PLAIN = _peer("rathole", "over TCP", Security.PLAIN, noise=False)
NOISE_PROTOCOL = _peer("rathole-noise", "over Noise", Security.NOISE, noise=True)
