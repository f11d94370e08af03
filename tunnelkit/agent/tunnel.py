"""A tunnel as its agent has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tunnelkit.agent.service import Service, Traffic
from tunnelkit.errors import TunnelkitError
from tunnelkit.wire.address import Endpoint

if TYPE_CHECKING:
    from tunnelkit.agent.agent import Agent

__all__ = ["AgentTunnel"]


@dataclass(eq=False)
class AgentTunnel:
    """One tunnel of an agent, or an exit. ``url``, ``host`` and ``port`` are where visitors go."""

    agent: Agent = field(repr=False)
    number: int
    kind: Literal["http", "tcp", "exit"]
    target: Endpoint | str
    """What is behind it; words, for an exit."""
    name: str
    remote_port: int
    host_header: str
    service: Service = field(repr=False)
    answer: asyncio.Future[None] = field(repr=False)
    """The relay's first answer to the request."""
    zone: str = ""
    url: str = ""
    host: str = ""
    port: int = 0
    plain_port: int = 0
    """Where visitors come in without TLS; 0: nowhere."""
    warnings: tuple[str, ...] = ()
    up: bool = False
    chosen: bool = False
    """Whether the relay chose the port, and may choose another when this one has gone."""
    error: TunnelkitError | None = None
    """Why the tunnel is lost for good."""

    @property
    def traffic(self) -> Traffic:
        """Connections and bytes so far."""
        return self.service.traffic

    @property
    def answered(self) -> bool:
        """Whether the relay has answered, well or ill."""
        return self.answer.done()

    async def close(self) -> None:
        """Close the tunnel; what runs on it ends. Safe to call twice."""
        await self.agent.close_tunnel(self)
