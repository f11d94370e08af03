"""The public side: takes visitors in and passes them to agents."""

from tunnelkit.relay.auth import AnyToken, Authorizer, Identity, Rights, TokenList
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.secured import RelayTls
from tunnelkit.relay.server import Relay, RelaySsh

__all__ = [
    "AnyToken",
    "Authorizer",
    "Identity",
    "Limits",
    "Relay",
    "RelaySsh",
    "RelayTls",
    "Rights",
    "TokenList",
]
