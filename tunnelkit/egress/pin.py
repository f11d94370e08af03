"""The addresses that connections leave from, and no others."""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunnelkit.errors import FamilyNotPinnedError, InvalidError, ProxyUnavailable
from tunnelkit.wire.address import ip_address
from tunnelkit.wire.address_class import own_class, plain

__all__ = ["PinPool"]

log = logging.getLogger("tunnelkit")

SET_ASIDE = 1.0
"""Seconds for which an address that is gone is not tried while others are there. Trying costs a bind."""

_NEVER = frozenset({"unspecified", "broadcast", "multicast", "link-local"})
"""Classes of addresses that cannot be left from, or not without naming an interface."""


@dataclass(slots=True)
class _Pin:
    address: str
    family: socket.AddressFamily
    trouble: str | None = None
    aside_until: float = 0.0


class PinPool:
    """Source addresses, IPv4 and IPv6, of which each client and destination keeps one.

    Add and remove at any time: connections that are there stay, and only those that had the
    removed address get another one (rendezvous hashing). An address that is no longer of this
    machine is passed over until it is again; if there is no other, nothing leaves.
    """

    def __init__(self, addresses: Iterable[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Numeric addresses, at least one. :class:`InvalidError` for what cannot be left from."""
        self._clock = clock
        self._pins: dict[str, _Pin] = {}
        for address in addresses:
            pin = _parse(address)
            self._pins[pin.address] = pin
        if not self._pins:
            raise InvalidError("No address to leave from is given")

    @property
    def addresses(self) -> Sequence[str]:
        """All of the pool, in the order they were added."""
        return tuple(self._pins)

    def status(self) -> dict[str, str | None]:
        """By address: None if it works as far as is known, else what is wrong with it."""
        return {pin.address: pin.trouble for pin in self._pins.values()}

    def check(self) -> None:
        """Bind to each once; :class:`ProxyUnavailable` names those that are not of this machine."""
        for pin in self._pins.values():
            self._examine(pin)
        missing = [pin for pin in self._pins.values() if pin.trouble]
        if missing:
            raise _unavailable(missing)

    def add(self, address: str) -> None:
        """Leave from ``address``, too. :class:`InvalidError`, :class:`ProxyUnavailable`."""
        pin = _parse(address)
        self._examine(pin)
        if pin.trouble:
            raise _unavailable([pin])
        self._pins.setdefault(pin.address, pin)

    def remove(self, address: str) -> None:
        """No new connection leaves from ``address``. InvalidError if it is not there, or the last."""
        pin = self._pins.get(_parse(address).address)
        if pin is None:
            raise InvalidError(f"{address} is not one of the addresses to leave from")
        if len(self._pins) == 1:
            raise InvalidError(f"{address} is the last address to leave from", hint="Add another one first")
        del self._pins[pin.address]

    def has(self, family: socket.AddressFamily) -> bool:
        """Whether an address of ``family`` is pinned, be it here now or not."""
        return any(pin.family == family for pin in self._pins.values())

    def candidates(self, family: socket.AddressFamily, client: str, destination: str) -> Sequence[str]:
        """The addresses to leave from, the one that ``client`` keeps for ``destination`` first.

        Those set aside come last. :class:`FamilyNotPinnedError` if there are none.
        """
        pins = [pin for pin in self._pins.values() if pin.family == family]
        if not pins:
            raise FamilyNotPinnedError(f"No {_NAMES[family]} address to leave from is pinned")
        if len(pins) > 1:
            now = self._clock()
            base = hashlib.blake2b(f"{client}\0{destination}\0".encode(errors="surrogateescape"))
            pins.sort(key=lambda pin: (pin.aside_until > now, _weight(base, pin.address)))
        return [pin.address for pin in pins]

    def failed(self, address: str) -> None:
        """No connection could be begun from ``address``: look at it, and set it aside if it is gone."""
        if (pin := self._pins.get(address)) is not None:
            known = pin.trouble
            self._examine(pin)
            if pin.trouble and not known:
                log.warning("cannot leave from %s for now: %s", pin.address, pin.trouble)

    def worked(self, address: str) -> None:
        """``address`` could be bound: it is no longer set aside."""
        if (pin := self._pins.get(address)) is not None and pin.trouble:
            self._restore(pin)

    def bind_udp(self, family: socket.AddressFamily, client: str) -> tuple[socket.socket, str]:
        """A non-blocking datagram socket on the address that ``client`` keeps, and that address.

        :class:`FamilyNotPinnedError`, :class:`ProxyUnavailable`.
        """
        candidates = self.candidates(family, client, "")
        for address in candidates:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.bind((address, 0))
            except OSError:
                sock.close()
                self.failed(address)
                continue
            self.worked(address)
            return sock, address
        raise self.unavailable(candidates)

    def unavailable(self, addresses: Iterable[str]) -> ProxyUnavailable:
        """The error to raise when none of ``addresses`` could be left from."""
        return _unavailable([self._pins.get(address) or _parse(address) for address in addresses])

    def _examine(self, pin: _Pin) -> None:
        """Bind to it, and see."""
        try:
            with socket.socket(pin.family, socket.SOCK_DGRAM) as sock:
                sock.bind((pin.address, 0))
        except OSError as error:
            pin.trouble = error.strerror or str(error)
            pin.aside_until = self._clock() + SET_ASIDE
        else:
            if pin.trouble:
                self._restore(pin)

    def _restore(self, pin: _Pin) -> None:
        log.warning("%s can be left from again", pin.address)
        pin.trouble = None
        pin.aside_until = 0.0


_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


def _parse(text: str) -> _Pin:
    address = ip_address(text.strip().removeprefix("[").removesuffix("]"))
    if address is None or "%" in text:
        raise InvalidError(
            f"Not an address to leave from: {text[:80]!r}", hint="Give a numeric IPv4 or IPv6 address"
        )
    address = plain(address)
    if own_class(address) in _NEVER:
        raise InvalidError(f"Nothing can leave from {address}", hint="Give one address of this machine")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # As getsockname(2) writes it, for that is what it is compared with.
    return _Pin(socket.inet_ntop(family, address.packed), family)


def _weight(base: hashlib.blake2b, address: str) -> bytes:
    hashed = base.copy()
    hashed.update(address.encode())
    return hashed.digest()


def _unavailable(pins: Sequence[_Pin]) -> ProxyUnavailable:
    reasons = "; ".join(f"{pin.address}: {pin.trouble or 'no connection can be begun'}" for pin in pins)
    return ProxyUnavailable(f"Cannot leave from the pinned address ({reasons})")
