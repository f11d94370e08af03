"""Egress: a proxy whose connections leave from pinned addresses."""

from tunnelkit.egress.access import Access
from tunnelkit.egress.dialer import EgressDialer
from tunnelkit.egress.limits import Limits
from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy, Rule
from tunnelkit.egress.server import EgressProxy
from tunnelkit.egress.users import User, UserLimits, hash_password, parse_users

__all__ = [
    "Access",
    "EgressDialer",
    "EgressProxy",
    "Limits",
    "PinPool",
    "Policy",
    "Rule",
    "User",
    "UserLimits",
    "hash_password",
    "parse_users",
]
