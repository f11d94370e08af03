"""Sets of networks: who may come in, who is believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tunnelkit.errors import InvalidError
from tunnelkit.wire.address import ip_address
from tunnelkit.wire.address_class import IpNetwork, plain

__all__ = ["Networks"]


class Networks:
    """Addresses and CIDRs, of both families; ``address in networks``.

    IPv4 that is written as IPv6 (``::ffff:192.0.2.1``) is IPv4, on either side.
    """

    def __init__(self, texts: Iterable[str], *, what: str = "a network") -> None:
        """Raises InvalidError, which says that an item is not ``what``."""
        self._networks: list[IpNetwork] = []
        for text in texts:
            try:
                self._networks.append(ipaddress.ip_network(text.strip()))
            except ValueError as error:
                raise InvalidError(f"Not {what}: {error}"[:200]) from error

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether the IP ``address`` is in one of them; a name never is."""
        ip = ip_address(address)
        return ip is not None and any(plain(ip) in network for network in self._networks)
