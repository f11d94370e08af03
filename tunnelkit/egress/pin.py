"""The addresses that connections leave from, and no others."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

__all__ = ["PinPool"]


class PinPool:
    """Source addresses, IPv4 and IPv6, of which each client and destination keeps one.

    Add and remove at any time: connections that are there stay, and only those that had the
    removed address get another one.
    """

    def __init__(self, addresses: Iterable[str]) -> None:
        """Numeric addresses, at least one. :class:`InvalidError` for what cannot be left from."""
        raise NotImplementedError

    @property
    def addresses(self) -> Sequence[str]:
        """All of the pool, in the order they were added."""
        raise NotImplementedError

    def check(self) -> None:
        """Bind to each once; :class:`ProxyUnavailable` names those that are not of this machine."""
        raise NotImplementedError

    def status(self) -> dict[str, str | None]:
        """By address: None if it works as far as is known, else what is wrong with it."""
        raise NotImplementedError

    def add(self, address: str) -> None:
        """Leave from ``address``, too. :class:`InvalidError`, :class:`ProxyUnavailable`."""
        raise NotImplementedError

    def remove(self, address: str) -> None:
        """No new connection leaves from ``address``. InvalidError if it is not there, or the last."""
        raise NotImplementedError

    def has(self, family: socket.AddressFamily) -> bool:
        """Whether an address of ``family`` is pinned, be it here now or not."""
        raise NotImplementedError

    def candidates(self, family: socket.AddressFamily, client: str, destination: str) -> Sequence[str]:
        """The addresses to leave from, the one that ``client`` keeps for ``destination`` first.

        Those set aside come last. :class:`FamilyNotPinnedError` if there are none.
        """
        raise NotImplementedError

    def failed(self, address: str, reason: str) -> None:
        """``address`` could not be bound: it is set aside for a while."""
        raise NotImplementedError

    def worked(self, address: str) -> None:
        """``address`` could be bound: it is no longer set aside."""
        raise NotImplementedError

    def bind_udp(self, family: socket.AddressFamily, client: str) -> socket.socket:
        """A non-blocking datagram socket on the address that ``client`` keeps, any port.

        :class:`FamilyNotPinnedError`, :class:`ProxyUnavailable`.
        """
        raise NotImplementedError
