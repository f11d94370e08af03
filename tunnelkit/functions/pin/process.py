"""The process that a pinned function's is started by, until there are two of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tunnelkit.errors import ProxyUnavailable
from tunnelkit.functions import child
from tunnelkit.functions.pin.pins import Pins
from tunnelkit.functions.pin.proof import prove
from tunnelkit.functions.pin.supervisor import run_beneath

__all__ = ["Process"]


@dataclass(frozen=True, slots=True)
class Process:
    """``addresses`` and ``nonce``: see :class:`~tunnelkit.functions.pin.proof.Observer`."""

    ips: tuple[str, ...]
    addresses: tuple[tuple[str, int], ...]
    nonce: bytes

    def __call__(self) -> None:
        pins = Pins.of(self.ips)
        try:
            run_beneath(pins, int(sys.argv[1]), lambda: child.main(self._prove))
        except OSError as error:
            reason = str(error)

            def explain() -> None:
                raise ProxyUnavailable(f"A function cannot be pinned here: {reason}")

            child.main(explain)

    def _prove(self) -> None:
        try:
            prove(Pins.of(self.ips), self.addresses, self.nonce)
        except OSError as error:
            raise ProxyUnavailable(f"A pinned process cannot connect: {error}") from None
