"""tunnelkit: relay and agent as processes of their own, over plain WebSocket.

``BENCHMARKS_TUNNELKIT`` may hold another command for it: an installed release, or this one under a
profiler. ``{part}`` in it becomes ``relay`` or ``agent``.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.model import PUBLIC_NAME, Address, Fleet, Mode, Peer, Security
from benchmarks.processes import ROOT, Launcher, Process, free_address
from benchmarks.stage import busy_program, program

COMMAND = os.environ.get("BENCHMARKS_TUNNELKIT") or f"{shlex.quote(sys.executable)} -m tunnelkit"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
NAME, _, DOMAIN = PUBLIC_NAME.partition(".")

JOINED = 180.0  # seconds for thousands of agents and tunnels to come up, each with a probe, on two cores


def command(part: str) -> list[str]:
    return [word.replace("{part}", part) for word in shlex.split(COMMAND)]


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay, and all that an agent has to know of it."""

    listen: Address
    public: Address
    """The one port for TCP tunnels."""
    token: str
    """A file."""
    scheme: str
    agent_options: Sequence[str]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.listen}"


def start_relay(
    launch: Launcher,
    scheme: str = "ws",
    *,
    relay_options: Sequence[str] = (),
    agent_options: Sequence[str] = (),
) -> Relay:
    """``scheme`` is what agents dial; the options are what the two ends need for it."""
    token = launch.write("token", secrets.token_urlsafe(32))
    relay = Relay(free_address(), free_address(), token, scheme, agent_options)

    def run() -> Process:
        process = launch.run(
            *command("relay"), "serve",
            "--listen", str(relay.listen),
            "--domain", DOMAIN,
            "--tcp-ports", f"{relay.public.port}-{relay.public.port}",
            "--token-file", relay.token,
            *relay_options,
            env=ENVIRONMENT,
        )  # fmt: skip
        process.expect("listening")
        return process

    launch.serve(run)
    return relay


def start_agent(launch: Launcher, relay: Relay, mode: Mode, service: Address) -> Address:
    """Returns where visitors connect."""
    if mode is Mode.HTTP:
        tunnel = ["http", str(service), "--name", NAME]
    else:
        tunnel = ["tcp", str(service), "--remote-port", str(relay.public.port)]
    agent = launch.run(
        *command("agent"), *tunnel,
        "--relay", relay.url,
        "--token-file", relay.token,
        *relay.agent_options,
        env=ENVIRONMENT,
    )  # fmt: skip
    agent.expect(r"^\S+://\S+$")
    return relay.listen if mode is Mode.HTTP else relay.public


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    return start_agent(launch, start_relay(launch), mode, service)


def fleet(launch: Launcher, mode: Mode, service: Address) -> Fleet:
    relay = start_relay(launch)
    return Fleet(start_agent(launch, relay, mode, service), partial(join, relay, service))


def join(relay: Relay, service: Address, launch: Launcher, agents: int, tunnels: int) -> None:
    """Many agents in one process: it is the relay that they are for."""
    arguments = [relay.url, relay.token, str(service), str(agents), str(tunnels)]
    launch.run(*program("agents", *arguments), env=ENVIRONMENT).expect("^up$", timeout=JOINED)


def library(launch: Launcher, service: Address, busy: bool) -> Address:
    """A program around ``Tunnel.create``, with the relay in its engine process."""
    return busy_program(launch, service, *(["--busy"] if busy else []))


PEER = Peer(
    name="tunnelkit",
    about="relay and agent, ws",
    security=Security.PLAIN,
    modes=frozenset(Mode),
    start=start,
    hops=2,
    version=(*command("version"), "--version"),
    ours=True,
    quick=True,
    reconnects=True,
    fleet=fleet,
    library=library,
)
