"""Where settings come from, and what they may be.

The first source that has a value decides: keyword argument or command-line option, environment
(``TUNNELKIT_RELAY``), ``tunnelkit.toml`` in the working directory, the same file in the user's
configuration directory, default. The file has the agent's settings at its top level and those of
``tunnelkit serve`` and ``tunnelkit egress`` in tables of their own::

    relay = "wss://relay.example.com"
    token_file = "relay.token"          # beside this file

    [serve]
    listen = [":8080"]
    domain = "tunnels.example.com"
    tcp_ports = "20000-20099"

    [egress]                            # in the environment: TUNNELKIT_EGRESS_SOURCE_IP
    source_ip = "203.0.113.7"

``token`` and ``token_file`` are one setting in two forms: a source that has either decides for both.
A file with a key that does not exist is refused, and so is an environment with a variable that
looks like a misspelt token: a relay must not be open, nor an agent unverified, for a typing error.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.config.tokens import (
    read_token,
    read_token_file,
    relay_token,
    relay_tokens,
    tokens_in,
)
from tunnelkit.errors import AuthMissingError, InvalidError, TunnelkitError
from tunnelkit.wire.address import ip_address, parse_listen, parse_port_range, split_host
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["FILE_NAME", "AgentSettings", "Masked", "RelaySettings", "load_agent", "load_relay", "option"]

FILE_NAME = "tunnelkit.toml"
PREFIX = "TUNNELKIT_"

MAX_FILE = 1 << 20
"""Bytes read of a settings file: far more than anybody writes, and none for a wrong path."""


# --- readers: from what a source holds to a value -----------------------------------------------
# Each takes what TOML, Python or a piece of text can hold, and raises InvalidError.


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidError("Not a text")
    return value.strip()


def _relay(value: object) -> str:
    text = _text(value)
    return str(RelayUrl.parse(text)) if text else ""


def _filled(value: object) -> str:
    if not (text := _text(value)):
        raise InvalidError("Empty", hint="Leave it out, or say what it is")
    return text


def _switch(value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False, "": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise InvalidError(f"Neither true nor false: {value!r}")
    return words[value.strip().lower()]


def _seconds(value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        seconds = float(value)
    except (TypeError, ValueError):
        raise InvalidError(f"Not a number of seconds: {value!r}") from None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidError(f"Not a length of time: {value!r}")
    return seconds


def _positive(value: object) -> float:
    if not (seconds := _seconds(value)):
        raise InvalidError("No time at all", hint="Give a number of seconds above 0")
    return seconds


def _listen(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if isinstance(value, int) and not isinstance(value, bool):
        value = [str(value)]
    if not isinstance(value, Iterable) or not (addresses := tuple(map(_text, value))):
        raise InvalidError("No address to listen at", hint="Give HOST:PORT, or several")
    for address in addresses:
        parse_listen(address)
    return addresses


def _domain(value: object) -> str:
    domain = _text(value).strip(".").lower()
    if domain:
        host, port = split_host(domain, hint="Give a domain, such as tunnels.example.com")
        if port or ip_address(host) is not None:
            raise InvalidError(f"Not a domain: {domain[:80]!r}", hint="Leave it out where there is none")
    return domain


def _tcp_ports(value: object) -> range:
    if isinstance(value, range) and (not value or value.step == 1):
        value = f"{value.start}-{value.stop - 1}" if value else ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidError("Not a range of ports", hint="Give FIRST-LAST")
    return range(0) if value == "" else parse_port_range(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, Iterable) or not (texts := tuple(map(_filled, value))):
        raise InvalidError("Empty", hint="Leave it out, or say what it is")
    return texts


def _keys_file(value: object) -> str:
    if not (path := _text(value)):
        raise AuthMissingError("The name of the file with the keys is empty")
    return path


def _rules(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [line for line in value.replace(";", "\n").splitlines() if line.strip()]
    if not isinstance(value, Iterable):
        raise InvalidError("No rules", hint='Give a list of "allow …" and "deny …"')
    return tuple(map(_filled, value))


# --- the settings -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How an agent reaches its relay."""

    relay: Annotated[str, _relay] = ""
    """Where the relay is: ``wss://HOST``, ``ws://HOST:PORT``, ``ssh://HOST:PORT``, or ``ssh+openssh://USER@HOST``
    for an SSH server of any make. Empty: one is started on this machine."""

    token: Annotated[Masked, read_token] = NO_SECRET
    """Proves to the relay who this is. Better in a file than here."""

    token_file: Annotated[str, read_token_file] = ""
    """A file with the token; ``-`` is standard input."""

    ca: Annotated[str, _filled] = ""
    """A file (PEM) with the authorities that may sign the relay's certificate. Empty: the system's."""

    fingerprint: Annotated[str, _filled] = ""
    """SHA-256 of the relay's certificate, which then needs no authority."""

    identity_file: Annotated[str, _filled] = ""
    """The private key for a relay by SSH. Empty: those of the SSH agent, and of ``~/.ssh``."""

    known_hosts: Annotated[str, _filled] = ""
    """A file with host keys that are trusted. Empty: ``~/.ssh/known_hosts`` and the system's."""

    host_key: Annotated[str, _filled] = ""
    """``SHA256:…``, the fingerprint of the relay's host key; known_hosts does not count then."""

    ping_interval: Annotated[float, _positive] = 20.0
    """Seconds of silence after which an SSH server is asked for a sign of life. A relay names its own."""

    ping_timeout: Annotated[float, _positive] = 20.0
    """Seconds of silence after that, until it counts as dead."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """What ``tunnelkit serve`` does. Times are in seconds."""

    listen: Annotated[tuple[str, ...], _listen] = ("127.0.0.1:8080",)
    """Addresses for agents and HTTP visitors: ``HOST:PORT``, or ``:PORT`` for every interface."""

    domain: Annotated[str, _domain] = ""
    """HTTP tunnels get names under it. Empty: each gets a port of its own."""

    tcp_ports: Annotated[range, _tcp_ports] = range(0)
    """Public ports for TCP tunnels, ``FIRST-LAST``. Empty: the relay opens none."""

    token: Annotated[tuple[Masked, ...], relay_tokens] = ()
    """Who may open tunnels: one token or a list, each an identity of its own. Better in a file."""

    token_file: Annotated[str, read_token_file] = ""
    """A file with one token a line, and its rights behind it; see :mod:`tunnelkit.config.tokens`."""

    open: Annotated[bool, _switch] = False
    """Let everybody open tunnels; without it, a relay that others can reach needs a token."""

    egress_source_ip: Annotated[tuple[str, ...], _texts] = ()
    """Addresses of this machine by which agents' proxies may leave. Empty: none is lent."""

    egress_rules: Annotated[tuple[str, ...], _rules] = ()
    """Where to: ``allow DESTINATION`` and ``deny DESTINATION``, the first match decides."""

    ssh: Annotated[tuple[str, ...], _listen] = ()
    """Addresses for SSH alone; at those of ``listen`` it is spoken as well."""

    authorized_keys: Annotated[str, _keys_file] = ""
    """A file with the keys that may log in over SSH and open tunnels, in OpenSSH's format (sshd(8))."""

    ssh_host_key: Annotated[str, _filled] = ""
    """The file with the SSH host key, made at the first start. Empty: in the user's data directory."""

    ssh_keys_only: Annotated[bool, _switch] = False
    """Take no tokens as passwords over SSH."""

    grace: Annotated[float, _seconds] = 30.0
    """How long running streams may go on once the relay is told to stop."""

    ping_interval: Annotated[float, _positive] = 20.0
    """Silence after which a connection is pinged; carriers cut what is quiet for a minute."""

    ping_timeout: Annotated[float, _positive] = 20.0
    """Silence after a ping that means the connection is dead."""

    stall_timeout: Annotated[float, _positive] = 300.0
    """A peer that takes no byte for this long is given up."""


# --- sources ------------------------------------------------------------------------------------


class _Given(NamedTuple):
    value: object
    source: str
    """How the person who gave the value knows it: ``--relay``, ``TUNNELKIT_RELAY``, …"""
    base: Path = Path()
    """The directory that a relative path counts from."""


Level = dict[str, _Given]
"""What one source has."""

Settings = TypeVar("Settings")

_TOKEN = {"token", "token_file"}
_PATHS = {
    "access_log",
    "authorized_keys",
    "ca",
    "identity_file",
    "known_hosts",
    "ssh_host_key",
    "token_file",
    "users",
}
_NO_PATHS = {"-", "off"}
_PREFIXED = ("egress", "exit")
"""Tables whose variables are named after them: ``TUNNELKIT_EGRESS_LISTEN``."""


def _tables() -> dict[str, type[Any]]:
    """The tables of the file beside the agent's settings."""
    from tunnelkit.config.egress import EgressSettings  # which is made of the readers above
    from tunnelkit.config.exit import ExitSettings

    return {"serve": RelaySettings, "egress": EgressSettings, "exit": ExitSettings}


def _prefix(kind: type[Any]) -> str:
    """What the variables of ``kind`` begin with."""
    return next((f"{PREFIX}{name.upper()}_" for name in _PREFIXED if kind is _tables()[name]), PREFIX)


def _variables(kind: type[Any]) -> dict[str, str]:
    """The variables of ``kind`` and what each sets.

    What a relay lends is not set by a variable: that would be the proxy's own.
    """
    prefix = _prefix(kind)
    others = tuple(f"{PREFIX}{name.upper()}_" for name in _PREFIXED) if prefix == PREFIX else ()
    variables = {prefix + name.upper(): name for name in _readers(kind)}
    return {variable: name for variable, name in variables.items() if not variable.startswith(others)}


def option(name: str) -> str:
    """``name`` as an option of the command line."""
    return "--" + name.replace("_", "-")


def load_agent(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> AgentSettings:
    """An agent's settings, ``token`` filled in from ``token_file``.

    ``overrides`` come before all other sources; None among them is no value, and ``named`` says how
    errors call them. ``environ`` and ``directory`` stand in for the process's own. Raises InvalidError
    and AuthMissingError, which name the source.
    """
    settings = load(AgentSettings, overrides or {}, environ, directory, named)
    if not settings.token_file:
        return settings
    tokens = tokens_in(settings.token_file, read_token)
    if len(tokens) > 1:
        raise InvalidError(f"{settings.token_file} has {len(tokens)} tokens", hint="An agent has one token")
    return dataclasses.replace(settings, token=tokens[0])


def load_relay(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> RelaySettings:
    """A relay's settings, ``token`` filled in from ``token_file``. Otherwise like :func:`load_agent`."""
    settings = load(RelaySettings, overrides or {}, environ, directory, named)
    if settings.token_file:
        settings = dataclasses.replace(settings, token=tokens_in(settings.token_file, relay_token))
    if settings.open and settings.token:
        raise InvalidError(
            "The relay is told to be open, and to ask for a token", hint="Leave out one of the two"
        )
    if settings.open and settings.authorized_keys:
        raise InvalidError(
            "The relay is told to be open, and to ask for a key", hint="Leave out one of the two"
        )
    return settings


def load(
    kind: type[Settings],
    overrides: Mapping[str, object],
    environ: Mapping[str, str] | None,
    directory: Path | None,
    named: Callable[[str], str],
) -> Settings:
    """The settings of one kind, as its sources have them; see :func:`load_agent`."""
    readers = _readers(kind)
    given = {key: _Given(value, named(key)) for key, value in overrides.items() if value is not None}
    for key in given.keys() - readers.keys():
        _unknown(key, readers, "tunnelkit")
    levels = [
        given,
        _environment(os.environ if environ is None else environ, kind),
        *(_file(path, kind) for path in _files(directory)),
    ]
    values = {}
    for key, it in _merge(levels).items():
        try:
            values[key] = readers[key](it.value)
        except TunnelkitError as error:
            raise type(error)(f"{it.source}: {error.what}", hint=error.hint) from None
        if key in _PATHS and values[key] not in _NO_PATHS:
            values[key] = str((it.base / Path(values[key]).expanduser()).absolute())
    make: Any = kind
    settings: Settings = make(**values)
    return settings


def _readers(kind: type[Any]) -> dict[str, Callable[[object], Any]]:
    """How each field of ``kind`` is read, as its annotation says."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def _merge(levels: Iterable[Level]) -> Level:
    merged: Level = {}
    for level in levels:
        if level.keys() >= _TOKEN:
            first, second = (level[key].source for key in sorted(_TOKEN))
            raise InvalidError(f"Both {first} and {second} are given", hint="Give one of the two")
        decided = merged.keys() | (_TOKEN if merged.keys() & _TOKEN else set())
        merged |= {key: it for key, it in level.items() if key not in decided}
    return merged


def _environment(environ: Mapping[str, str], kind: type[Any]) -> Level:
    level = {}
    variables = _variables(kind)
    kinds: tuple[type[Any], ...] = (AgentSettings, *_tables().values())
    known = {variable for each in kinds for variable in _variables(each)}
    for variable, value in environ.items():
        if (name := variables.get(variable)) is not None:
            level[name] = _Given(value, variable)
        elif variable.startswith(PREFIX) and variable not in known:
            # Others are left alone: Kubernetes sets TUNNELKIT_PORT for a service of that name.
            if not _is_about_tokens(variable.removeprefix(PREFIX)):
                continue
            close = difflib.get_close_matches(variable, known, 1, cutoff=0)
            raise AuthMissingError(
                f"The environment variable {variable} is none of tunnelkit's", hint=f"Is it {close[0]}?"
            )
    return level


def _is_about_tokens(name: str) -> bool:
    """Whether ``name`` looks like an attempt at a setting that decides whom to trust."""
    words = {"TOKEN", "TOKENS", "TOKENFILE", "AUTH", "PASSWORD", "FINGERPRINT", "AUTHORIZED"}
    if name.startswith("EGRESS_"):
        words |= {"USERS", "CLIENT"}
    return any(difflib.get_close_matches(part, words, 1, cutoff=0.75) for part in (name, *name.split("_")))


def _files(directory: Path | None) -> list[Path]:
    from platformdirs import user_config_path  # 8 ms, and only here

    paths = (directory or Path()) / FILE_NAME, user_config_path("tunnelkit") / FILE_NAME
    return [path for path in paths if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a service may have a home that it cannot look into
        return False


def _file(path: Path, kind: type[Any]) -> Level:
    try:
        table = tomllib.loads(_read(path))
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} is not a TOML file: {error}") from None
    chosen, prefix = table, ""
    kinds = _tables()
    for name in kinds:
        inner = table.pop(name, {})
        if not isinstance(inner, dict):
            raise InvalidError(f"{path}: {name} is not a table", hint=f"Write [{name}] above its settings")
        for key in inner:
            _unknown(key, _readers(kinds[name]), f"{path}, in [{name}]")
        if kind is kinds[name]:
            chosen, prefix = inner, f"{name}."
    for key in table:
        _unknown(key, [*_readers(AgentSettings), *kinds], str(path))
    return {key: _Given(value, f"{path}: {prefix}{key}", path.parent) for key, value in chosen.items()}


def _unknown(key: str, known: Iterable[str], where: str) -> None:
    """Raise InvalidError unless ``key`` is one of ``known``."""
    if key in (known := list(known)):
        return
    close = difflib.get_close_matches(key, known, 1)
    hint = f"Is it {close[0]!r}?" if close else f"There are {', '.join(known)}"
    raise InvalidError(f"There is no setting {key!r} in {where}", hint=hint)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_FILE)
