"""An exit as its agent has it: in the place of a local service, all that the exit's rules allow."""

from __future__ import annotations

from tunnelkit.transport.accept import AcceptedStream, Traffic
from tunnelkit.transport.exit import ExitService
from tunnelkit.wire.messages import Open

__all__ = ["AgentExit"]


class AgentExit:
    """Passes a relay's streams to ``service``; a :class:`~tunnelkit.agent.service.Service`."""

    proxy_protocol = 0

    def __init__(self, service: ExitService) -> None:
        self._service = service

    @property
    def traffic(self) -> Traffic:
        return self._service.traffic

    def visit(self, stream: AcceptedStream, request: Open) -> None:
        self._service.leave(stream, request, client=request.visitor, rules=request.rules)

    async def close(self) -> None:
        await self._service.close("agent_closed")
