"""Proxies: named ways out, from an address that others can let in."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self, TypeAlias
from urllib.parse import urlsplit

from tunnelkit.config.both_ways import both_ways
from tunnelkit.config.environment import environment
from tunnelkit.config.home import shared_store
from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.config.names import check_name
from tunnelkit.config.store import Entry, Kind, Ref, Variables, Write
from tunnelkit.errors import AlreadyExistsError, InvalidError, StoreDamagedError
from tunnelkit.wire.address import ip_address

__all__ = [
    "MAX_IPS",
    "Proxy",
    "ProxyInfo",
    "ProxyManager",
    "Route",
    "check_route",
    "route_of",
    "variables_of",
]

MAX_IPS = 64
"""Source addresses of one proxy; a machine rarely has more."""

SCHEMES = ("http", "socks5", "socks5h")

# How a store keeps a proxy: an object with one of these two variables.
_IPS, _GATEWAY = "ips", "gateway"

_GATEWAY_HINT = "Give http://, socks5:// or socks5h://[USER:PASSWORD@]HOST[:PORT]"


@dataclass(frozen=True, slots=True)
class Route:
    """Where connections go out: exactly one of the two is set."""

    ips: tuple[str, ...] = ()
    """Source addresses of this machine, in the order of preference."""
    gateway: Masked = NO_SECRET
    """The URL of a proxy, with its password if it has one."""

    @property
    def kind(self) -> str:
        """``ip`` or ``gateway``."""
        return "ip" if self.ips else "gateway"

    @property
    def shown(self) -> str:
        """The addresses, or the URL without its password."""
        if self.ips:
            return ", ".join(self.ips)
        parts = urlsplit(self.gateway.reveal())
        credentials, at, address = parts.netloc.rpartition("@")
        user, colon, _ = credentials.partition(":")
        return f"{parts.scheme}://{user}{':***' if colon else ''}{at}{address}"


@dataclass(frozen=True, slots=True)
class ProxyInfo:
    """What may be known of a proxy. Times are aware, in UTC."""

    name: str
    created_at: datetime
    created_by: str | None
    kind: str
    """``ip`` or ``gateway``."""
    route: str
    """As :attr:`Route.shown`."""


def check_route(ip: str | Sequence[str] = (), gateway: str | None = None) -> Route:
    """The route through ``ip``, addresses that this machine has, or ``gateway``. Raises InvalidError."""
    ips = (ip,) if isinstance(ip, str) else tuple(ip)
    if bool(ips) == (gateway is not None):
        raise InvalidError("A proxy is either addresses or a gateway", hint="Give one of ip and gateway")
    if gateway is not None:
        return Route(gateway=_check_gateway(gateway))
    if len(ips) > MAX_IPS:
        raise InvalidError(f"A proxy of {len(ips)} addresses", hint=f"{MAX_IPS} is the limit")
    checked = tuple(map(_check_ip, ips))
    if len(set(checked)) < len(checked):
        raise InvalidError("An address of the proxy is there twice", hint="Give each once")
    return Route(ips=checked)


def variables_of(route: Route) -> Variables:
    """A route as a store keeps it."""
    return {_IPS: Masked(" ".join(route.ips))} if route.ips else {_GATEWAY: route.gateway}


def route_of(variables: Variables) -> Route:
    """The route that a store keeps so. Raises StoreDamagedError."""
    if ips := variables.get(_IPS):
        return Route(ips=tuple(ips.reveal().split()))
    if gateway := variables.get(_GATEWAY):
        return Route(gateway=gateway)
    raise StoreDamagedError("The stored proxy has neither addresses nor a gateway")


def _check_ip(text: str) -> str:
    address = ip_address(text.strip())
    if address is None:
        raise InvalidError(f"{text[:80]!r} is not an IP address", hint="Give one such as 203.0.113.7")
    if address.is_unspecified or address.is_multicast:
        raise InvalidError(f"{address} is the address of no machine", hint="Give one that this machine has")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise InvalidError(f"{address} cannot be used: {error.strerror}") from None
        hint = "`ip address` lists those it has"
        raise InvalidError(f"This machine does not have the address {address}", hint=hint) from None
    return str(address)


def _check_gateway(url: str) -> Masked:
    """Errors never show the URL, which may have a password in it wherever it is malformed."""
    text = url.strip()
    host, port, parts = None, None, urlsplit("")
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    if parts.scheme not in SCHEMES or not host or port == 0:
        raise InvalidError("The gateway is not the address of a proxy", hint=_GATEWAY_HINT)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidError("The gateway has a path, and a proxy has none", hint=_GATEWAY_HINT)
    return Masked(text)


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

        The URL is ``http://``, ``socks5://`` or ``socks5h://[USER:PASSWORD@]HOST[:PORT]``. Raises
        InvalidError, AlreadyExistsError, NotFoundError for the environment, StoreError.
        """
        route = check_route(ip, gateway)
        try:
            shared_store().write(_ref(name, environment_name), variables_of(route), mode=Write.CREATE)
        except AlreadyExistsError:
            if not allow_existing:
                raise

    @both_ways
    def list(self, *, environment_name: str | None = None) -> Proxies:
        """The proxies of an environment, by name."""
        name = environment(environment_name)
        entries = shared_store().entries(Kind.PROXY, name)
        return [Proxy.from_name(entry.ref.name, environment_name=name) for entry in entries]

    @both_ways
    def delete(self, name: str, *, allow_missing: bool = False, environment_name: str | None = None) -> None:
        """Delete a proxy. Raises NotFoundError unless ``allow_missing``."""
        shared_store().delete(_ref(name, environment_name), allow_missing=allow_missing)


class Proxy:
    """A reference to a proxy by its name: it is looked up whenever it is used."""

    __slots__ = ("_environment", "_name")

    objects: ClassVar[ProxyManager] = ProxyManager()

    _name: str
    _environment: str | None

    def __init__(self) -> None:
        raise InvalidError("A Proxy is not made by calling it", hint="Use Proxy.from_name")

    @classmethod
    def from_name(cls, name: str, *, environment_name: str | None = None) -> Self:
        """The proxy stored as ``name``; ``environment_name`` as for a Secret.

        Nothing is looked up yet: a missing proxy raises NotFoundError when it is first used.
        """
        self = object.__new__(cls)
        self._name = check_name(name, what="proxy")
        self._environment = None if environment_name is None else environment(environment_name)
        return self

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self._name

    @both_ways
    def route(self) -> Route:
        """Where connections go out. Raises NotFoundError, StoreError."""
        return route_of(shared_store().read(self._ref()))

    @both_ways
    def info(self) -> ProxyInfo:
        """What may be known of it. Raises NotFoundError, StoreError."""
        store = shared_store()
        entry: Entry = store.entry(self._ref())
        route = route_of(store.read(self._ref(), is_use=False))
        return ProxyInfo(self._name, entry.created_at, entry.created_by, route.kind, route.shown)

    def _ref(self) -> Ref:
        return _ref(self._name, self._environment)

    def __repr__(self) -> str:
        where = "" if self._environment is None else f", environment_name={self._environment!r}"
        return f"Proxy.from_name({self._name!r}{where})"

    def __reduce__(self) -> tuple[object, ...]:
        return _reference, (self._name, self._environment)


Proxies: TypeAlias = list[Proxy]
"""As ``list`` is called where ``list`` is a method."""


def _reference(name: str, environment_name: str | None) -> Proxy:
    return Proxy.from_name(name, environment_name=environment_name)


def _ref(name: str, environment_name: str | None) -> Ref:
    return Ref(Kind.PROXY, check_name(name, what="proxy"), environment(environment_name))
