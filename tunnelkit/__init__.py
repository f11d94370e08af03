"""Tunnels from a public address to a service on this machine, and what they need to be told.

``Tunnel.create`` and ``forward`` work anywhere in a program; ``Relay`` and ``Agent`` are for those
who have an event loop and want them in it. ``Secret``, ``Proxy`` and ``SchedulerPlacement`` say what a
program runs with, which way it goes out, and where it runs. Errors are in :mod:`tunnelkit.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.errors import *  # noqa: F403

if TYPE_CHECKING:
    from tunnelkit.agent import Agent, RelayEgress
    from tunnelkit.config.placement import SchedulerPlacement
    from tunnelkit.config.proxy import Proxy, ProxyInfo
    from tunnelkit.config.secret import Secret, SecretInfo
    from tunnelkit.egress import EgressProxy
    from tunnelkit.functions import App, Function, FunctionCall, Retries, gather
    from tunnelkit.relay import Relay, RelaySsh, RelayTls
    from tunnelkit.tunnel import Forwarding, Tunnel, forward

__all__ = [
    "Agent",
    "App",
    "EgressProxy",
    "Forwarding",
    "Function",
    "FunctionCall",
    "Proxy",
    "ProxyInfo",
    "Relay",
    "RelayEgress",
    "RelaySsh",
    "RelayTls",
    "Retries",
    "SchedulerPlacement",
    "Secret",
    "SecretInfo",
    "Tunnel",
    "__version__",
    "errors",
    "forward",
    "gather",
]
__all__ += errors.__all__

_HOMES = {
    "Agent": "tunnelkit.agent",
    "App": "tunnelkit.functions",
    "EgressProxy": "tunnelkit.egress",
    "Forwarding": "tunnelkit.tunnel",
    "Function": "tunnelkit.functions",
    "FunctionCall": "tunnelkit.functions",
    "Proxy": "tunnelkit.config.proxy",
    "ProxyInfo": "tunnelkit.config.proxy",
    "Relay": "tunnelkit.relay",
    "RelayEgress": "tunnelkit.agent",
    "RelaySsh": "tunnelkit.relay",
    "RelayTls": "tunnelkit.relay",
    "Retries": "tunnelkit.functions",
    "SchedulerPlacement": "tunnelkit.config.placement",
    "Secret": "tunnelkit.config.secret",
    "SecretInfo": "tunnelkit.config.secret",
    "Tunnel": "tunnelkit.tunnel",
    "forward": "tunnelkit.tunnel",
    "gather": "tunnelkit.functions",
}


def __getattr__(name: str) -> Any:
    """Import what is used when it is used, which keeps ``import tunnelkit`` at a millisecond."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
