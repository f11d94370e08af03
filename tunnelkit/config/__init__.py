"""Settings: frozen values, read once and checked at once."""

from tunnelkit.config.egress import EgressSettings, load_egress
from tunnelkit.config.exit import ExitSettings, load_exit
from tunnelkit.config.settings import AgentSettings, Masked, RelaySettings, load_agent, load_relay

__all__ = [
    "AgentSettings",
    "EgressSettings",
    "ExitSettings",
    "Masked",
    "RelaySettings",
    "load_agent",
    "load_egress",
    "load_exit",
    "load_relay",
]
