"""Settings: frozen values, read once and checked at once."""

from tunnelkit.config.loading import load_agent, load_relay, load_zone, load_zones
from tunnelkit.config.masked import Masked
from tunnelkit.config.settings import AgentSettings, RelaySettings
from tunnelkit.config.zones import Zone

__all__ = [
    "AgentSettings",
    "Masked",
    "RelaySettings",
    "Zone",
    "load_agent",
    "load_relay",
    "load_zone",
    "load_zones",
]
