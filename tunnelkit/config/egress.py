"""The settings of ``tunnelkit egress``, read as :mod:`tunnelkit.config.settings` reads all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.config.settings import (
    _filled,
    _listen,
    _positive,
    _relay,
    _rules,
    _seconds,
    _switch,
    _text,
    _texts,
    load,
    option,
)
from tunnelkit.errors import AuthMissingError, InvalidError

__all__ = ["EgressSettings", "load_egress"]


def _clients(value: object) -> tuple[str, ...]:
    try:
        return _texts(value)
    except InvalidError:
        raise AuthMissingError("There is no client address", hint="Give addresses or CIDRs") from None


def _users(value: object) -> str:
    if not (path := _text(value)):
        raise AuthMissingError("The name of the file with the users is empty")
    return path


def _count(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidError(f"Not a number: {value!r}"[:80])
    return value


def _some(value: object) -> int:
    if not (count := _count(value)):
        raise InvalidError("None at all", hint="Give a number above 0")
    return count


def _secret(value: object) -> Masked:
    text = value.reveal() if isinstance(value, Masked) else _text(value)
    return Masked(text) if text else NO_SECRET


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EgressSettings:
    """What ``tunnelkit egress`` does. Times are in seconds."""

    listen: Annotated[tuple[str, ...], _listen] = ("127.0.0.1:1080",)
    """Addresses for clients, SOCKS and HTTP: ``HOST:PORT``, or ``:PORT`` for every interface."""

    source_ip: Annotated[tuple[str, ...], _texts] = ()
    """The addresses to leave from. Empty: the system chooses."""

    rules: Annotated[tuple[str, ...], _rules] = ()
    """Where clients may go: ``allow DESTINATION`` and ``deny DESTINATION``, the first match decides."""

    users: Annotated[str, _users] = ""
    """A file with the users, ``NAME:HASH`` a line, as ``tunnelkit egress user`` writes it."""

    client: Annotated[tuple[str, ...], _clients] = ()
    """Addresses and networks that clients may come from."""

    open: Annotated[bool, _switch] = False
    """Let everybody in; without it, a proxy that others can reach needs ``users`` or ``client``."""

    via: Annotated[str, _relay] = ""
    """A relay to leave from instead of this machine; its token is the agent's."""

    exit: Annotated[str, _text] = ""
    """Which of the relay's exits: an agent's name, or ``zone:ZONE``. Empty: the relay itself."""

    upstream: Annotated[Masked, _secret] = NO_SECRET
    """A proxy to go on through: ``socks5://`` or ``http://`` URL, with user and password if need be."""

    access_log: Annotated[str, _filled] = "-"
    """Where a line for each connection goes: a file, ``-`` for standard error, or ``off``."""

    connections: Annotated[int, _some] = 10_000
    """Clients at once."""

    connections_per_client: Annotated[int, _some] = 4096
    """Connections at once of one client address."""

    user_connections: Annotated[int, _count] = 0
    """Connections at once of one user (or address, where there are no users). 0: no limit."""

    user_rate: Annotated[float, _seconds] = 0.0
    """New connections a second of one user. 0: no limit."""

    idle_timeout: Annotated[float, _positive] = 3600.0
    """A connection on which nothing moves is ended after this."""

    grace: Annotated[float, _seconds] = 30.0
    """How long running connections may go on once the proxy is told to stop."""


def load_egress(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> EgressSettings:
    """The proxy's settings; see :func:`~tunnelkit.config.settings.load_agent`."""
    return load(EgressSettings, overrides or {}, environ, directory, named)
