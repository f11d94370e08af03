"""Proxies: named ways out, from an address that others can let in."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from tunnelkit.config.both_ways import both_ways
from tunnelkit.config.masked import NO_SECRET, Masked

__all__ = ["Proxy", "ProxyInfo", "ProxyManager", "Route"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where connections go out: exactly one of the two is set."""

    ips: tuple[str, ...] = ()
    """Source addresses of this machine, in the order of preference."""
    gateway: Masked = NO_SECRET
    """The URL of a proxy, with its password if it has one."""

    @property
    def shown(self) -> str:
        """The addresses, or the URL without its password."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ProxyInfo:
    """What may be known of a proxy. Times are aware, in UTC."""

    name: str
    created_at: datetime.datetime
    created_by: str | None
    kind: str
    """``ip`` or ``gateway``."""
    route: str
    """As :attr:`Route.shown`."""


class ProxyManager:
    """``Proxy.objects``: the proxies that are stored under a name."""

    @both_ways
    def create(
        self,
        name: str,
        *,
        ip: str | Sequence[str] = (),
        gateway: str | None = None,
        allow_existing: bool = False,
        environment_name: str | None = None,
    ) -> None:
        """Store a proxy: ``ip``, addresses that this machine has, or ``gateway``, the URL of a proxy.

        ``http://``, ``socks5://`` or ``socks5h://[USER:PASSWORD@]HOST[:PORT]``. Raises InvalidError,
        AlreadyExistsError, NotFoundError for the environment, StoreError.
        """
        raise NotImplementedError

    @both_ways
    def list(self, *, environment_name: str | None = None) -> list[Proxy]:
        """The proxies of an environment, by name."""
        raise NotImplementedError

    @both_ways
    def delete(self, name: str, *, allow_missing: bool = False, environment_name: str | None = None) -> None:
        """Delete a proxy. Raises NotFoundError unless ``allow_missing``."""
        raise NotImplementedError


class Proxy:
    """A reference to a proxy by its name: it is looked up when it is used, each time."""

    objects: ClassVar[ProxyManager] = ProxyManager()

    @classmethod
    def from_name(cls, name: str, *, environment_name: str | None = None) -> Self:
        """The proxy stored as ``name``. Nothing is looked up yet: a missing one raises NotFoundError then."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name it is stored under."""
        raise NotImplementedError

    @both_ways
    def route(self) -> Route:
        """Where connections go out. Raises NotFoundError, StoreError."""
        raise NotImplementedError

    @both_ways
    def info(self) -> ProxyInfo:
        """What may be known of it. Raises NotFoundError, StoreError."""
        raise NotImplementedError
