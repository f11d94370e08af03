"""Errors of the egress proxy, of relays and exits that it leaves by, and of destinations."""

from __future__ import annotations

from tunnelkit.errors.base import TunnelkitError

__all__ = [
    "DestinationDeniedError",
    "DestinationError",
    "DestinationRefusedError",
    "DestinationTimeoutError",
    "DestinationUnreachableError",
    "DestinationUnresolvedError",
    "ExitAwayError",
    "ExitNotAllowedError",
    "FamilyNotPinnedError",
    "NoExitError",
    "ProxyAuthError",
    "ProxyError",
    "ProxyUnavailable",
    "UserLimitError",
]


class ProxyError(TunnelkitError):
    """A connection through the egress proxy failed."""

    code = "proxy_error"
    exit_status = 24


class ProxyUnavailable(ProxyError):  # noqa: N818 - a state that passes, not a mistake
    """No pinned address to leave from is one of this machine now; no other address takes its place."""

    code = "proxy_unavailable"
    exit_status = 24
    default_hint = "Give the address back to this machine (ip address show), or change --source-ip"


class FamilyNotPinnedError(ProxyError):
    """The destination is of an address family for which no address is pinned."""

    code = "family_not_pinned"
    exit_status = 24
    default_hint = "Pin an address of that family, too, with --source-ip"


class ProxyAuthError(ProxyError):
    """The proxy does not know this user, password or client address."""

    code = "proxy_auth_failed"
    exit_status = 24
    default_hint = "Check the user and password in the proxy's URL"


class UserLimitError(ProxyError):
    """A limit of the proxy for this user is reached."""

    code = "user_limit"
    exit_status = 24
    default_hint = "Close connections, or ask the proxy's operator for more"


class NoExitError(ProxyError):
    """The relay lends no address of its own, or knows no exit of that name or zone."""

    code = "no_exit"
    exit_status = 24
    default_hint = "Start the relay with --egress-source-ip, or an agent with tunnelkit exit --name NAME"


class ExitAwayError(NoExitError):
    """The exit's agent is not connected."""

    code = "exit_away"
    exit_status = 24
    default_hint = "The agent reconnects by itself; try again in a moment"


class ExitNotAllowedError(ProxyError):
    """The token's rights do not let it leave there, or offer an exit of that name."""

    code = "exit_not_allowed"
    exit_status = 24
    default_hint = "The relay's operator says by which exits a token may leave"


class DestinationError(ProxyError):
    """The destination of a connection through the egress proxy cannot be reached."""

    code = "destination_error"
    exit_status = 24


class DestinationDeniedError(DestinationError):
    """The proxy's rules do not let anybody go there."""

    code = "destination_denied"
    exit_status = 24
    default_hint = "The proxy's operator allows destinations with --allow"


class DestinationUnresolvedError(DestinationError):
    """The destination's name has no address, or no name server answered."""

    code = "destination_unresolved"
    exit_status = 24
    default_hint = "Check the name"


class DestinationRefusedError(DestinationError):
    """Nothing accepts connections at the destination."""

    code = "destination_refused"
    exit_status = 24
    default_hint = "Check its port"


class DestinationUnreachableError(DestinationError):
    """There is no way to the destination."""

    code = "destination_unreachable"
    exit_status = 24
    default_hint = "Is there a route from the pinned address?"


class DestinationTimeoutError(DestinationError):
    """The destination did not answer in time."""

    code = "destination_timeout"
    exit_status = 24
    default_hint = "Is it up, or a firewall in between?"
