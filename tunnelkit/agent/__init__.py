"""The private side: runs beside the service and dials out to the relay."""

from tunnelkit.agent.agent import Agent, AgentTunnel
from tunnelkit.agent.events import Event
from tunnelkit.agent.via import RelayEgress

__all__ = ["Agent", "AgentTunnel", "Event", "RelayEgress"]
