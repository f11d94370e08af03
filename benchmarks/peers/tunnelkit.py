"""tunnelkit: relay and agent as processes of their own, over plain WebSocket.

``BENCHMARKS_TUNNELKIT`` may hold another command for it: an installed release, or this one under a
profiler. ``{part}`` in it becomes ``relay`` or ``agent``.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys

from benchmarks.model import PUBLIC_NAME, Address, Mode, Peer
from benchmarks.processes import ROOT, Launcher, free_address

COMMAND = os.environ.get("BENCHMARKS_TUNNELKIT") or f"{shlex.quote(sys.executable)} -m tunnelkit"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def command(part: str) -> list[str]:
    return [word.replace("{part}", part) for word in shlex.split(COMMAND)]


def start(launch: Launcher, mode: Mode, service: Address) -> Address:
    listen, public = free_address(), free_address()
    name, _, domain = PUBLIC_NAME.partition(".")
    token = launch.write("token", secrets.token_urlsafe(32))
    relay = launch.run(
        *command("relay"), "serve",
        "--listen", str(listen),
        "--domain", domain,
        "--tcp-ports", f"{public.port}-{public.port}",
        "--token-file", token,
        env=ENVIRONMENT,
    )  # fmt: skip
    relay.expect("listening")
    if mode is Mode.HTTP:
        tunnel = ["http", str(service), "--name", name]
    else:
        tunnel = ["tcp", str(service), "--remote-port", str(public.port)]
    agent = launch.run(
        *command("agent"), *tunnel,
        "--relay", f"ws://{listen}",
        "--token-file", token,
        env=ENVIRONMENT,
    )  # fmt: skip
    agent.expect(r"^\S+://\S+$")
    return listen if mode is Mode.HTTP else public


PEER = Peer(
    name="tunnelkit",
    about="relay and agent, ws",
    security="plain",
    modes=frozenset(Mode),
    start=start,
    version=(*command("version"), "--version"),
)
