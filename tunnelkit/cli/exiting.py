"""Offers this machine as an exit until it is told to stop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tunnelkit.agent import Event
from tunnelkit.cli.display import Reporter
from tunnelkit.cli.running import Stop, run
from tunnelkit.cli.tunnels import finish, follow, reporting
from tunnelkit.compose import connected_agent, exit_dialer
from tunnelkit.config import AgentSettings, ExitSettings, load_agent, load_exit
from tunnelkit.errors import InvalidError

__all__ = ["hold_exit"]


def hold_exit(overrides: Mapping[str, object], relay: Mapping[str, object], *, as_json: bool) -> None:
    """Run ``tunnelkit exit``: settings of the command line, and those of them about the relay."""
    with reporting(as_json=as_json) as reporter:
        settings, agent = load_exit(overrides), load_agent(relay)
        if not agent.relay:
            raise InvalidError("An exit needs a relay to be found at", hint="Give --relay URL")
        run(partial(_hold, settings, agent, reporter), log=reporter.say)


async def _hold(settings: ExitSettings, agent: AgentSettings, reporter: Reporter, stop: Stop) -> None:
    dialer = exit_dialer(settings)
    reporter.start(agent.relay)

    def heard(event: Event) -> None:
        if event.kind == "tunnel_up":
            stop.up()
        reporter.event(event)

    async with connected_agent(agent, on_event=heard) as session:
        reporter.agent = session.agent
        await session.agent.offer(dialer, name=settings.name, zone=settings.zone)
        await follow(session.agent, reporter, stop)
        await finish(session.agent, settings.grace, reporter, stop)
