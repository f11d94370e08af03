"""Settings: frozen values, read once and checked at once."""

from tunnelkit.config.settings import AgentSettings, Masked, RelaySettings, load_agent, load_relay

__all__ = ["AgentSettings", "Masked", "RelaySettings", "load_agent", "load_relay"]
