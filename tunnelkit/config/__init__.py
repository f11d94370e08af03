"""Settings: frozen values, read once and checked at once."""

from tunnelkit.config.egress import EgressSettings, load_egress
from tunnelkit.config.settings import AgentSettings, Masked, RelaySettings, load_agent, load_relay

__all__ = [
    "AgentSettings",
    "EgressSettings",
    "Masked",
    "RelaySettings",
    "load_agent",
    "load_egress",
    "load_relay",
]
