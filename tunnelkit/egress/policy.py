"""Where a proxy's users may go: rules, the first that matches wins.

::

    rule         allow DESTINATION | deny DESTINATION
    DESTINATION  WHERE | WHERE:PORTS | :PORTS
    WHERE        *                    everywhere
                 www.example.com      what is asked for by this name
                 *.example.com        by a name that ends so; * stands for any characters
                 .example.com         by this name, or one that ends so
                 192.0.2.1, 192.0.2.0/24, [2001:db8::1], [2001:db8::/32]
    PORTS        443 | 8000-8999 | 80,443,8000-8999

Rules on names look at what the client asks for; rules on addresses at where the connection would go,
however it was asked for. What no rule matches may go to any public address if there are only ``deny``
rules, and nowhere if there is an ``allow`` rule.

Addresses that are not public (:mod:`tunnelkit.wire.address_class`) are for rules that name them as
addresses: ``allow *`` and ``allow *.example.com`` do not open them, for whoever runs a name decides
where it leads.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from tunnelkit.errors import InvalidError, InvalidPortError, InvalidTargetError
from tunnelkit.wire.address import IpAddress, normal_host, parse_port_range
from tunnelkit.wire.address_class import PUBLIC, IpNetwork, address_class, inner_addresses

__all__ = ["Policy", "Rule"]

MAX_SHOWN = 80
"""Characters of a wrong rule that an error shows."""

_HINT = "A rule is *, a name, *.NAME, an address or a network (192.0.2.0/24), and :PORTS if need be"

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rules. Neither ``names`` nor ``network``: everywhere."""

    allow: bool
    text: str
    names: tuple[tuple[str, ...], ...] = ()
    """Patterns, each cut where its stars are."""
    network: IpNetwork | None = None
    ports: tuple[range, ...] = ()
    """Empty: all."""

    @classmethod
    def parse(cls, action: Literal["allow", "deny"], destination: str) -> Self:
        """See :mod:`tunnelkit.egress.policy`. :class:`InvalidError`, one line, for anything else."""
        try:
            where, ports = _split_ports(destination.strip())
            network = _network(where)
            anywhere = where in ("", "*") or network is not None
            names = () if anywhere else _patterns(where.lower())
        except InvalidError as error:
            shown = f"{action} {destination}"
            shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
            raise InvalidError(f"Not a rule: {shown!r}: {error.what}", hint=error.hint or _HINT) from error
        return cls(action == "allow", destination.strip(), names, network, ports)

    def __str__(self) -> str:
        return f"{'allow' if self.allow else 'deny'} {self.text}"

    def is_for_port(self, port: int) -> bool:
        """Whether it says anything about ``port``."""
        return not self.ports or any(port in ports for ports in self.ports)

    def is_for_name(self, name: str | None) -> bool:
        """Whether it is for all destinations, or for those that are asked for by ``name``."""
        if not self.names:
            return self.network is None
        return name is not None and any(_matches(parts, name) for parts in self.names)

    def is_for_address(self, address: IpAddress, inner: tuple[IpAddress, ...]) -> bool:
        """Whether it is for ``address``; what it lets through has to be meant to the last address in it."""
        if self.network is None:
            return False
        if address in self.network:
            return True
        within = [address in self.network for address in inner]
        return any(within) and (all(within) or not self.allow)


class Policy:
    """Decides about destinations. Frozen: other rules are another policy."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._is_list = any(rule.allow for rule in self.rules)

    @classmethod
    def parse(cls, rules: Iterable[str]) -> Self:
        """Rules as texts, ``allow DESTINATION`` or ``deny DESTINATION``, in order. :class:`InvalidError`."""
        return cls(map(_rule, rules))

    def refuses_name(self, name: str, port: int) -> str | None:
        """Why no address of ``name`` would be allowed, known without a lookup; None to look it up."""
        for rule in self.rules:
            if not rule.is_for_port(port):
                continue
            if rule.network is not None:
                return None  # it may be for one of the addresses
            if rule.is_for_name(name):
                return None if rule.allow else f"the rule {str(rule)!r}"
        return self._unmatched()

    def refuses(self, name: str | None, address: IpAddress, port: int) -> str | None:
        """Why a connection to ``address`` is refused; None: it is allowed.

        ``name`` is what the client asked for, normalised; None if it gave the address itself.
        """
        kind = address_class(address)
        inner = inner_addresses(address)
        for rule in self.rules:
            if not rule.is_for_port(port):
                continue
            named = rule.is_for_name(name) and (kind == PUBLIC or not rule.allow)
            if named or rule.is_for_address(address, inner):
                return None if rule.allow else f"the rule {str(rule)!r}"
        return f"{address} is a {kind} address" if kind != PUBLIC else self._unmatched()

    def _unmatched(self) -> str | None:
        return "no rule allows it" if self._is_list else None


def _rule(text: str) -> Rule:
    action, _, destination = text.strip().partition(" ")
    if action in ("allow", "deny"):
        return Rule.parse("allow" if action == "allow" else "deny", destination)
    raise InvalidError(f"Not a rule: {text[:MAX_SHOWN]!r}", hint="A rule starts with 'allow' or 'deny'")


# --- reading ------------------------------------------------------------------------------------


def _split_ports(text: str) -> tuple[str, tuple[range, ...]]:
    """The destination without its ports and brackets, and the ports."""
    if not text:
        raise InvalidError("it is empty")
    if text.startswith("["):
        where, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":") or rest == ":" or ":" not in where:
            raise InvalidError("brackets are for IPv6, and the ports behind them")
        return where, _ports(rest[1:]) if rest else ()
    if text.count(":") > 1:  # IPv6 without brackets, which has no room for ports
        return text, ()
    where, colon, ports = text.partition(":")
    return where, _ports(ports) if colon else ()


def _ports(text: str) -> tuple[range, ...]:
    try:
        return tuple(parse_port_range(part.strip()) for part in text.split(","))
    except InvalidPortError as error:
        raise InvalidError(error.what, hint=error.hint) from error


def _network(where: str) -> IpNetwork | None:
    """The network that ``where`` is; None if it is meant as a name."""
    try:
        network = ipaddress.ip_network("" if "%" in where else where)  # no zones
    except ValueError:
        if "/" in where or ":" in where:
            raise InvalidError("it is no network", hint=_network_hint(where)) from None
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        address = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((address, network.prefixlen - 96))
    return network


def _network_hint(where: str) -> str:
    try:
        return f"Did you mean {ipaddress.ip_network(where, strict=False)}?"
    except ValueError:
        return _HINT


def _patterns(where: str) -> tuple[tuple[str, ...], ...]:
    """A name, or the pattern of one, as :func:`_matches` takes it."""
    if not re.search("[^0-9.*]", where):
        raise InvalidError("it is no address", hint="Write a network as 10.0.0.0/8")
    if where.startswith("."):
        return _patterns(where[1:]) + _patterns(f"*{where}")
    try:
        labels = [label if label.isascii() else normal_host(label) for label in where.split(".")]
        pattern = ".".join(labels).removesuffix(".")
        normal_host(pattern.replace("*", "x"))  # the rest has to be a name like any other
    except InvalidTargetError:
        raise InvalidError("it is no name") from None
    return (tuple(pattern.split("*")),)


def _matches(parts: tuple[str, ...], name: str) -> bool:
    """Whether ``name`` is ``parts`` with anything in between. In one pass, whatever the name."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return name == first
    position, end = len(first), len(name) - len(last)
    if position > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in parts[1:-1]:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
