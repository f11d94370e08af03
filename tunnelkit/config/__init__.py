"""Settings: frozen values, read once and checked at once."""

from tunnelkit.config.egress import EgressSettings
from tunnelkit.config.exit import ExitSettings
from tunnelkit.config.loading import load_agent, load_egress, load_exit, load_relay, load_zone, load_zones
from tunnelkit.config.masked import Masked
from tunnelkit.config.settings import AgentSettings, RelaySettings
from tunnelkit.config.zones import Zone

__all__ = [
    "AgentSettings",
    "EgressSettings",
    "ExitSettings",
    "Masked",
    "RelaySettings",
    "Zone",
    "load_agent",
    "load_egress",
    "load_exit",
    "load_relay",
    "load_zone",
    "load_zones",
]
