"""The trailing words of an SSH command: options of the forwards, ``name=app proxy-protocol=2``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tunnelkit.errors import InvalidError
from tunnelkit.wire.address import Endpoint, split_host, tunnel_name

__all__ = ["NO_WORDS", "Words", "asked_for", "parse_words"]

OPTIONS = ("name", "proxy-protocol", "host-header")

_ANYWHERE = frozenset({"", "*", "localhost", "0.0.0.0", "::", "127.0.0.1", "::1"})
"""Listening hosts that name no tunnel: OpenSSH says ``localhost`` where its user said nothing."""

HTTP_PORT = 80
"""The listening port that asks for an HTTP tunnel."""


@dataclass(frozen=True, slots=True)
class Words:
    """Options of a command."""

    name: str = ""
    proxy_protocol: int = 0
    host_header: str = ""


NO_WORDS = Words()


def parse_words(command: str) -> Words:
    """The options in ``command``. Raises InvalidError, which names the word that is none."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidError(f"The options cannot be read: {error}") from None
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in OPTIONS or not equals:
            raise InvalidError(
                f"There is no option {key[:80]!r}" if equals else f"Not an option: {word[:80]!r}",
                hint="There are name=NAME, proxy-protocol=1, proxy-protocol=2 and host-header=HOST",
            )
        if key in values:
            raise InvalidError(f"The option {key!r} is given twice")
        values[key] = value
    name = tunnel_name(values["name"]) if "name" in values else ""
    protocol = values.get("proxy-protocol", "0")
    if "proxy-protocol" in values and protocol not in ("1", "2"):
        raise InvalidError(
            f"Not a version of the PROXY protocol: {protocol[:80]!r}", hint="There are 1 and 2"
        )
    host = values.get("host-header", "")
    if host == "rewrite":
        raise InvalidError(
            "The relay does not see where an SSH client forwards to",
            hint="Say what the service shall see: host-header=localhost:8000",
        )
    if "host-header" in values:
        split_host(host)
    return Words(name, int(protocol), host)


def asked_for(host: str, port: int, domain: str) -> tuple[str, int]:
    """What ``-R HOST:PORT`` asks for: a tunnel's name (or none), and a TCP port, -1 for an HTTP tunnel.

    Raises InvalidError where that makes no sense here.
    """
    name = host.lower()
    if domain and name.endswith(f".{domain}"):
        name = name.removesuffix(f".{domain}")
    name = "" if name in _ANYWHERE or name == domain else tunnel_name(name)
    if port == HTTP_PORT:
        return name, -1
    if name:
        raise InvalidError(
            f"A TCP port has no name: {str(Endpoint(name, port))!r}",
            hint=f"-R {port}:… is the port alone, -R {name}:80:… the HTTP tunnel {name!r}",
        )
    if port > 65535:
        raise InvalidError(f"Not a port: {port}")
    return "", port
