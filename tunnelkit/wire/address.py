"""Addresses and names as people write them: targets, listeners, ports, tunnel names.

::

    target      PORT | HOST:PORT | unix:/path | tcp://HOST:PORT | http://HOST[:PORT][/]
    listener    PORT | [HOST]:PORT | *:PORT
    port range  FIRST-LAST | PORT
    HOST        a name, an IPv4 address, or an IPv6 address in brackets

Each reading is the only one: what ``getaddrinfo`` would take besides (``127.1``, ``0x7f000001``,
``2130706433``, full-width digits) is refused, so that what is checked is what is dialled.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

from tunnelkit.errors import InvalidNameError, InvalidPortError, InvalidTargetError
from tunnelkit.wire.address_class import IpAddress, own_class, plain

__all__ = [
    "Endpoint",
    "IpAddress",
    "ip_address",
    "is_loopback",
    "normal_host",
    "parse_address",
    "parse_listen",
    "parse_port",
    "parse_port_range",
    "parse_target",
    "split_host",
    "tunnel_name",
]

MAX_UNIX_PATH = 103
"""Bytes in the path of an AF_UNIX socket: macOS's limit; Linux has 107 (``unix(7)``)."""

MAX_HOST = 253
"""Characters of a host name, which has 255 bytes in the DNS (RFC 1035 §2.3.4)."""

MAX_SHOWN = 80
"""Characters of a wrong value that an error shows."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to or to listen: ``host`` and ``port``, or the AF_UNIX socket ``path``.

    An empty ``host`` without a path is every interface of this machine, and only listened at.
    """

    host: str
    port: int
    path: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether this is an AF_UNIX socket."""
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# --- ports --------------------------------------------------------------------------------------


def parse_port(text: str | int, *, allow_zero: bool = False, what: str = "port") -> int:
    """A port from 1 to 65535, or 0 too if ``allow_zero``. ``what`` names it in errors."""
    number = _port_number(text)
    if number is None or not (number or allow_zero):
        raise InvalidPortError(f"Not a {what}: {_shown(text)}")
    return number


def _port_number(text: object) -> int | None:
    if isinstance(text, str) and re.fullmatch("[0-9]{1,5}", text):
        text = int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= 65535:
        return int(text)
    return None


def parse_port_range(text: str | int) -> range:
    """The ports of ``FIRST-LAST``, both included, or one alone."""
    first, dash, last = str(text).partition("-")
    ports = range(parse_port(first), parse_port(last if dash else first) + 1)
    if not ports:
        raise InvalidPortError(f"Not a range of ports: {_shown(text)}", hint="The lower one is first")
    return ports


# --- hosts --------------------------------------------------------------------------------------

_LABEL = re.compile("[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
"""A label of a host name as resolvers take it: RFC 1123 §2.1, and underscores for containers."""

_NUMERIC = re.compile("[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
"""A last label by which ``inet_aton(3)`` takes the whole name for an IPv4 address in disguise."""


_ZONE = re.compile("[a-z0-9._~-]+", re.IGNORECASE)
"""The interface behind ``%`` in a link-local address, as URLs may hold it (RFC 6874 §2)."""


def split_host(authority: str, *, hint: str | None = None) -> tuple[str, str]:
    """The host and the port of ``HOST[:PORT]`` as they stand there, the brackets of IPv6 removed.

    The port is empty where there is none. Raises :class:`InvalidTargetError` unless the host is a
    name or an address in its usual form; ``hint`` is for where no better one is known.
    """
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        well_formed = bracket and rest[:1] in ("", ":") and rest != ":" and _is_ipv6(host)
        port = rest[1:]
    else:
        host, colon, port = authority.partition(":")
        well_formed = bool(port) == bool(colon) and ":" not in port and _is_name_or_ipv4(host)
    if not well_formed:
        raise InvalidTargetError(f"Not an address: {_shown(authority)}", hint=_host_hint(authority) or hint)
    return host, port


def _is_name_or_ipv4(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return isinstance(ip_address(host), ipaddress.IPv4Address)
    return len(host) <= MAX_HOST and all(map(_LABEL.fullmatch, labels))


def _is_ipv6(host: str) -> bool:
    return isinstance(ip_address(host), ipaddress.IPv6Address)


def _host_hint(authority: str) -> str | None:
    if not authority.isascii():
        return "Write an internationalised name in its ASCII form, xn--…"
    if authority.count(":") > 1 and "[" not in authority:
        return "An IPv6 address stands in brackets: [::1]:8000"
    return None


def ip_address(host: str) -> IpAddress | None:
    """The address that ``host`` is: dotted decimal, or IPv6 without brackets. None for a name."""
    if ":" not in host and not host[-1:].isdigit():
        return None  # as nearly all names are told, without the price of an exception
    _, percent, zone = host.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def normal_host(host: str) -> str:
    """The one spelling of a host that somebody else asks for: what rules judge, and what is dialled.

    An address in its usual form (an IPv4 one that is mapped into IPv6 becomes plain IPv4), or a name
    in lower case, in ASCII (IDNA, UTS 46) and without a dot at its end. Brackets around IPv6 are
    removed. :class:`InvalidTargetError` for all else, IPv4 in disguise (``127.1``, ``0x7f000001``)
    and zones of link-local addresses among it.
    """
    if not host.isascii():
        host = _in_ascii(host)
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        address = ip_address(host) if bracket and not rest and _is_ipv6(host) else None
    else:
        address = ip_address(host.removesuffix("."))
        if address is None and _is_name_or_ipv4(host):
            return host.lower().removesuffix(".")
    if address is None or "%" in host:
        raise InvalidTargetError(f"Not a host: {_shown(host)}", hint=_HOST_HINT)
    return str(plain(address))


_HOST_HINT = "Give a name, four decimal numbers, or an IPv6 address"


def _in_ascii(host: str) -> str:
    """``host`` as the DNS has it (RFC 5890), read as browsers do (UTS 46)."""
    import idna  # its tables are large, and few need them

    try:
        if len(host) <= MAX_HOST:  # what is longer is not worth the work
            return idna.encode(host, uts46=True).decode()
    except UnicodeError:
        pass
    raise InvalidTargetError(f"Not a host: {_shown(host)}", hint=_HOST_HINT)


# --- targets and listeners ----------------------------------------------------------------------


def parse_target(text: str | int, *, default_host: str = "localhost") -> Endpoint:
    """A local service, as :mod:`this module <tunnelkit.wire.address>` writes it.

    ``default_host`` is the host of a ``PORT`` alone. ``0.0.0.0`` and ``::``, which servers print as
    where they listen, become the loopback address of their family.
    """
    if isinstance(text, int) or text.isdecimal():
        return Endpoint(default_host, parse_port(text))
    if text.startswith("unix:"):
        return _parse_unix(text)
    scheme, separator, authority = text.partition("://")
    if not separator:
        return _dialled(text, text)
    match scheme.lower():
        case "tcp":
            return _dialled(authority, text)
        case "http":
            return _dialled(authority.removesuffix("/"), text, default_port="80")
        case "https":
            raise InvalidTargetError(
                f"A service behind TLS is not supported: {_shown(text)}",
                hint="Give the service's plain http:// port, or a TCP tunnel to HOST:PORT",
            )
    raise InvalidTargetError(f"Not a target: {_shown(text)}")


def _dialled(authority: str, text: str, *, default_port: str = "") -> Endpoint:
    host, port = split_host(authority)
    if not (port or default_port):
        raise InvalidTargetError(f"A target without a port: {_shown(text)}")
    address = ip_address(host)
    if address is not None and address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return Endpoint(host, parse_port(port or default_port))


def _parse_unix(text: str) -> Endpoint:
    path = text.removeprefix("unix:")
    if path.startswith("///"):
        path = path[2:]
    absolute = re.match("/[^/]", path) and path.isprintable()
    if not absolute or len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise InvalidTargetError(
            f"Not the path of a socket: {_shown(text)}",
            hint=f"unix: takes an absolute path of at most {MAX_UNIX_PATH} bytes",
        )
    return Endpoint("", 0, path)


_LISTEN_HINT = "A listening address is PORT, HOST:PORT or :PORT"


def parse_listen(text: str | int) -> Endpoint:
    """Where to listen: 127.0.0.1 if no host is given, every interface for ``:PORT`` and ``*:PORT``.

    Port 0 is any free one.
    """
    if isinstance(text, int) or text.isdecimal():
        return Endpoint("127.0.0.1", parse_port(text, allow_zero=True))
    if text.startswith((":", "*:")):
        host, port = "", text.partition(":")[2]
    else:
        host, port = split_host(text, hint=_LISTEN_HINT)
        if not port:
            raise InvalidTargetError(f"No port to listen at: {_shown(text)}", hint=_LISTEN_HINT)
    return Endpoint(host, parse_port(port, allow_zero=True))


def parse_address(text: str) -> Endpoint:
    """A peer's numeric ``ADDRESS:PORT``, as ``str(Endpoint)`` writes it; port 0 included."""
    host, port = split_host(text)
    if ip_address(host) is None or not port:
        raise InvalidTargetError(f"Not an address and a port: {_shown(text)}")
    return Endpoint(host, parse_port(port, allow_zero=True))


# --- tunnel names -------------------------------------------------------------------------------

_TUNNEL_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

RESERVED_NAMES = frozenset(
    {
        # What visitors take for the operator's own.
        "www",
        "admin",
        "tunnelkit",
        # Resolvers answer it, and all below it, with the visitor's own machine (RFC 6761 §6.3).
        "localhost",
        # Programs fetch these by themselves, and trust them for the whole domain: proxy settings
        # (WPAD), IPv6 routing (RFC 5214), mail settings and passwords, mail security (RFC 8461).
        "wpad",
        "isatap",
        "autodiscover",
        "autoconfig",
        "mta-sts",
    }
)
"""Names that no tunnel gets, for whoever holds them speaks for more than a tunnel."""


def tunnel_name(text: str) -> str:
    """A tunnel's name in lower case: one DNS label that is not reserved.

    Names with hyphens in third and fourth place are refused too: ``xn--`` and its like stand for
    other characters (RFC 5891 §4.2.3.1), so such a name could look like another one.
    """
    # Folding first would let characters in whose lower case is ASCII, such as the Kelvin sign.
    name = text.lower() if text.isascii() else text
    if not _TUNNEL_NAME.fullmatch(name) or name[2:4] == "--":
        raise InvalidNameError(f"Not a tunnel name: {_shown(text)}")
    if name in RESERVED_NAMES:
        raise InvalidNameError(f"The name {name!r} is reserved", hint="Choose another --name")
    return name


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be this machine: a loopback address, or the name ``localhost``."""
    address = ip_address(host)
    if address is None:
        return host.lower().removesuffix(".") == "localhost"
    return own_class(plain(address)) == "loopback"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
