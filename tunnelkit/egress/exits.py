"""The egress dialer as relays and agents lend it to others: with rules that come with each stream."""

from __future__ import annotations

from tunnelkit.egress.dialer import Attempt, EgressDialer
from tunnelkit.egress.policy import Policy

__all__ = ["LentDialer"]

MAX_RULES_KEPT = 256
"""Lists of rules that are kept ready; each token has one at most."""


class LentDialer:
    """``dialer`` for :class:`tunnelkit.transport.exit.ExitService`."""

    def __init__(self, dialer: EgressDialer) -> None:
        self._dialer = dialer
        self._restricted: dict[tuple[str, ...], EgressDialer] = {}

    def attempt(self, host: str, port: int, *, client: str, rules: tuple[str, ...]) -> Attempt:
        """Begin a connection. :class:`InvalidError` for ``rules`` that this version cannot read."""
        dialer = self._with(rules) if rules else self._dialer
        return dialer.attempt(host, port, client=client)

    def _with(self, rules: tuple[str, ...]) -> EgressDialer:
        dialer = self._restricted.get(rules)
        if dialer is None:
            dialer = self._dialer.restricted(Policy.parse(rules))
            while len(self._restricted) >= MAX_RULES_KEPT:
                del self._restricted[next(iter(self._restricted))]  # the oldest
            self._restricted[rules] = dialer
        return dialer

    def add_listener(self, host: str, port: int) -> None:
        self._dialer.add_listener(host, port)

    def close(self) -> None:
        self._dialer.resolver.close()
