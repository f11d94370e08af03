"""Holds one tunnel open until it is told to stop, and says what happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tunnelkit.agent import Agent, Event
from tunnelkit.cli.display import Reporter, reporter_for
from tunnelkit.cli.running import Stop, drain, run
from tunnelkit.compose import connected_agent
from tunnelkit.config import AgentSettings, load_agent
from tunnelkit.errors import (
    InvalidError,
    ServiceError,
    ServiceRefusedError,
    ServiceTimeoutError,
    TunnelkitError,
)
from tunnelkit.net.dial import DialError, Resolver, dial
from tunnelkit.net.tasks import Tasks
from tunnelkit.wire.address import Endpoint, is_loopback

__all__ = ["Wanted", "find_service", "finish", "follow", "hold", "lan_address", "reporting", "tick"]

CHECK_TIMEOUT = 4.0
"""Seconds to look for the service: what a visitor would wait, too."""

LISTENING = "0A"
"""A listening socket's state in proc(5)'s /proc/net/tcp."""


@dataclass(frozen=True)
class Wanted:
    """A tunnel to hold; ``wishes`` are keyword arguments of :meth:`Agent.open`."""

    kind: Literal["http", "tcp"]
    target: Endpoint
    wishes: Mapping[str, Any]
    check: bool
    """Whether a service that is not there is an error."""
    grace: float
    """Seconds that running connections get at the end."""
    lan: bool
    """Whether the embedded relay is for this machine's neighbours too."""


def hold(wanted: Wanted, *, as_json: bool, overrides: Mapping[str, object]) -> None:
    """Run ``tunnelkit http`` and ``tcp``: ``overrides`` are settings of the command line."""
    with reporting(as_json=as_json) as reporter:
        settings = load_agent(overrides)
        if wanted.lan and settings.relay:
            raise InvalidError(
                f"--lan is for the embedded relay, and the relay is {settings.relay}",
                hint="Leave out one of the two",
            )
        run(partial(_hold, wanted, settings, reporter), log=reporter.say)


@contextlib.contextmanager
def reporting(*, as_json: bool) -> Iterator[Reporter]:
    """What tells of a command, and of the error that ends it."""
    reporter = reporter_for(as_json=as_json)
    try:
        yield reporter
    except TunnelkitError as error:
        reporter.close()
        reporter.failed(error)
        raise
    finally:
        reporter.close()


async def _hold(wanted: Wanted, settings: AgentSettings, reporter: Reporter, stop: Stop) -> None:
    if wanted.check:
        await find_service(wanted)
    reporter.start(settings.relay or "in this process")

    def heard(event: Event) -> None:
        if event.kind == "tunnel_up":
            stop.up()
        reporter.event(event)

    lan_host = lan_address() if wanted.lan else None
    async with connected_agent(settings, lan_host=lan_host, on_event=heard) as session:
        reporter.agent = session.agent
        await session.agent.open(wanted.kind, wanted.target, **wanted.wishes)
        if session.embedded:
            reporter.event(_reach(lan=wanted.lan))
        await follow(session.agent, reporter, stop, _warn_of_no_service(wanted, reporter))
        await finish(session.agent, wanted.grace, reporter, stop)


def lan_address() -> str:
    """The address by which this machine leaves for other networks, and its neighbours know it."""
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((elsewhere, 9))  # documentation addresses (RFC 5737); nothing is sent
            address: str = probe.getsockname()[0]
            return address
    raise InvalidError("This machine is in no network", hint="Leave out --lan")


def _reach(*, lan: bool) -> Event:
    if lan:
        return Event("notice", "Reachable from this network only; --relay URL opens it to the world")
    what = "Reachable on this machine only; --lan opens it to this network, --relay URL to the world"
    return Event("notice", f"{what} (ssh+openssh://USER@HOST is any machine with sshd)")


async def follow(agent: Agent, reporter: Reporter, stop: Stop, *beside: Coroutine[None, None, None]) -> None:
    """Return when the command is told to stop; raise what ended the tunnel, if that comes first.

    ``beside`` runs meanwhile.
    """
    tasks = Tasks("command")
    lost = tasks.spawn(_lost(agent), "lost")
    asked = tasks.spawn(stop.asked.wait(), "signal")
    tasks.spawn(tick(reporter), "display")
    for coroutine in beside:
        tasks.spawn(coroutine, "beside")
    try:
        await asyncio.wait([lost, asked], return_when=asyncio.FIRST_COMPLETED)
        if lost.done() and (error := lost.result()) is not None:
            raise error
    finally:
        await tasks.close()


async def _lost(agent: Agent) -> TunnelkitError | None:
    try:
        await agent.wait()
    except TunnelkitError as error:
        return error
    return None


async def tick(reporter: Reporter) -> None:
    """Have ``reporter`` look at the time, for as long as this runs."""
    while True:
        await asyncio.sleep(reporter.period)
        reporter.tick()


async def finish(agent: Agent, grace: float, reporter: Reporter, stop: Stop) -> None:
    if agent.active and grace:
        some = "1 connection" if agent.active == 1 else f"{agent.active:,} connections"
        what = f"Waiting up to {grace:g} s for {some} to finish; a second signal ends them"
        reporter.event(Event("notice", what))
    ticking = Tasks("command")
    ticking.spawn(tick(reporter), "display")
    await drain(agent.close, grace, stop)
    await ticking.close()


# --- the service --------------------------------------------------------------------------------


async def find_service(wanted: Wanted) -> None:
    """Raise ServiceError unless something accepts connections at the target."""
    target = wanted.target
    if wanted.kind == "tcp" and is_loopback(target.host) and (ports := _listening_ports()):
        # Without a connection: some services, such as ``nc -l``, take one in their lives.
        if target.port not in ports:
            raise _not_there(target)
        return
    try:
        sock = await dial(target, resolver=Resolver(), timeout=CHECK_TIMEOUT)
    except DialError as error:
        if error.kind == "timeout":
            raise ServiceTimeoutError(f"{target} does not answer") from None
        if error.kind == "refused":
            raise _not_there(target) from None
        raise ServiceRefusedError(f"There is no way to {target}: {error.reason}") from None
    sock.close()


def _not_there(target: Endpoint) -> ServiceRefusedError:
    return ServiceRefusedError(f"Nothing accepts connections at {target}")


def _listening_ports() -> set[int]:
    """Ports of this machine with a listener; empty where the system does not tell.

    Listeners come first (Documentation/networking/proc_net_tcp.rst of Linux), and what follows can be
    tens of thousands of rows, for which the loop would stand still.
    """
    ports = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError), table.open(encoding="ascii") as rows:
            next(rows, None)  # the head
            for row in rows:
                _, local, _, state = row.split(maxsplit=4)[:4]
                if state != LISTENING:
                    break
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


async def _warn_of_no_service(wanted: Wanted, reporter: Reporter) -> None:
    try:
        await find_service(wanted)
    except ServiceError as error:
        what = f"The tunnel is up, but {error.what[0].lower()}{error.what[1:]}"
        reporter.event(Event("warning", what, code=error.code))
