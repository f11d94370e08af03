"""Settings from their sources.

The first source that has a value decides: keyword argument or command-line option, environment
(``TUNNELKIT_RELAY``), ``tunnelkit.toml`` in the working directory, the same file in the user's
configuration directory, default. The file has the agent's settings at its top level and those of
``tunnelkit serve``, ``egress`` and ``exit`` in tables of their own::

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
What the file in the working directory may not decide is in :mod:`tunnelkit.config.trust`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tunnelkit.config import trust
from tunnelkit.config.egress import EgressSettings
from tunnelkit.config.exit import ExitSettings
from tunnelkit.config.names import check_name
from tunnelkit.config.readers import Reader, token
from tunnelkit.config.settings import AgentSettings, RelaySettings
from tunnelkit.config.sources import (
    FILE_NAME,
    Given,
    Level,
    Mistake,
    SettingsFile,
    Sources,
    misspelt,
    read_sources,
    readers_of,
    variables_of,
)
from tunnelkit.config.tokens import relay_token, tokens_in
from tunnelkit.config.variables import VARIABLES
from tunnelkit.config.zones import Zone
from tunnelkit.errors import InvalidError, TunnelkitError

__all__ = [
    "KNOWN",
    "SECTIONS",
    "TRUST",
    "conflict",
    "load_agent",
    "load_egress",
    "load_exit",
    "load_relay",
    "load_zone",
    "load_zones",
    "open_to_some",
    "option",
    "parse_value",
    "read_value",
    "resolve",
    "several_tokens",
    "structure",
    "tls_contradiction",
    "zone_level",
]

SECTIONS: Mapping[tuple[str, ...], type[Any]] = MappingProxyType(
    {
        (): AgentSettings,
        ("serve",): RelaySettings,
        ("egress",): EgressSettings,
        ("exit",): ExitSettings,
    }
)
"""The tables of a file, besides ``[zones.NAME]``."""

TRUST: Mapping[type[Any], Callable[[Sequence[Level]], tuple[list[Level], Mistake | None]]] = MappingProxyType(
    {
        AgentSettings: trust.agent_levels,
        RelaySettings: trust.relay_levels,
        EgressSettings: trust.egress_levels,
        ExitSettings: trust.exit_levels,
    }
)

KNOWN = frozenset(
    variable
    for section, kind in SECTIONS.items()
    for variable in variables_of(readers_of(kind), *section).values()
) | frozenset(variable.name for variable in VARIABLES)
"""Variables that the environment may have."""

_TOKEN = {"token", "token_file"}
_PATHS = {
    "access_log",
    "authorized_keys",
    "ca",
    "identity_file",
    "known_hosts",
    "ssh_host_key",
    "tls_cert",
    "tls_key",
    "token_file",
    "users",
}
_NO_PATHS = {"-", "off"}
_IDENTITY = {"ca", "fingerprint", "host_key"}

Settings = TypeVar("Settings")


def option(name: str) -> str:
    """``name`` as an option of the command line."""
    return "--" + name.replace("_", "-")


def load_agent(
    overrides: Mapping[str, object] | None = None,
    *,
    zone: str | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> AgentSettings:
    """An agent's settings, ``token`` filled in from ``token_file``.

    ``overrides`` come before all other sources; None among them is no value, and ``named`` says how
    errors call them. ``zone`` names the zone whose relay is meant. ``environ`` and ``directory`` stand in
    for the process's own. Raises InvalidError, AuthError and AuthMissingError, which name the source.
    """
    sources = read_sources(environ, directory)
    given = _given(AgentSettings, overrides or {}, named)
    levels = [given, *sources.levels(readers_of(AgentSettings))]
    if zone is not None:
        if "relay" in given:
            what = f"Both {named('zone')} and {given['relay'].name} are given"
            raise InvalidError(what, hint="Give one of the two")
        there = zone_level(sources, zone)
        if "relay" not in there:
            raise InvalidError(f"The zone {zone!r} names no relay", hint=f"Write relay = in [zones.{zone}]")
        # How another relay is recognised says nothing of this one.
        levels = [given, there, *(_without(_IDENTITY, level) for level in levels[1:])]
    settings = resolve(AgentSettings, levels, sources)[0]
    if not settings.token_file:
        return settings
    tokens = tokens_in(settings.token_file, token)
    if len(tokens) > 1:
        raise several_tokens(settings.token_file, len(tokens))
    return dataclasses.replace(settings, token=tokens[0])


def load_relay(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> RelaySettings:
    """A relay's settings, ``token`` filled in from ``token_file``. Otherwise like :func:`load_agent`."""
    settings = _load(RelaySettings, "serve", overrides or {}, read_sources(environ, directory), named)
    if settings.token_file:
        settings = dataclasses.replace(settings, token=tokens_in(settings.token_file, relay_token))
    if settings.open and (settings.token or settings.authorized_keys):
        raise open_to_some(settings)
    if (contradiction := tls_contradiction(settings)) is not None:
        raise contradiction[1]
    return settings


def load_egress(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> EgressSettings:
    """The egress proxy's settings; see :func:`load_agent`."""
    return _load(EgressSettings, "egress", overrides or {}, read_sources(environ, directory), named)


def load_exit(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> ExitSettings:
    """An exit's settings; see :func:`load_agent`."""
    return _load(ExitSettings, "exit", overrides or {}, read_sources(environ, directory), named)


def several_tokens(path: str, count: int) -> InvalidError:
    """An agent's file with more than its one token."""
    return InvalidError(f"{path} has {count} tokens", hint="An agent has one token")


def open_to_some(settings: RelaySettings) -> InvalidError:
    """A relay with a token or keys that nobody needs."""
    proof = "key" if settings.authorized_keys else "token"
    what = f"The relay is told to be open, and to ask for a {proof}"
    return InvalidError(what, hint="Leave out one of the two")


def tls_contradiction(settings: RelaySettings) -> tuple[str, InvalidError] | None:
    """What a relay's settings of TLS say against each other, and the name of the setting that is too much."""
    certificates, keys = settings.tls_cert, settings.tls_key
    if keys and len(keys) != len(certificates):
        what = f"There are {len(certificates)} certificates, and {len(keys)} keys for them"
        hint = "Give a --tls-key for each --tls-cert, in the same order"
        return "tls_key", InvalidError(what, hint=hint)
    if settings.tls_self_signed and certificates:
        what = "The relay is told to make a certificate, and to take one"
        return "tls_self_signed", InvalidError(what, hint="Leave out one of the two")
    if not (settings.tls_self_signed or certificates):
        hint = "Give --tls-cert and --tls-key, or --tls-self-signed"
        for name in ("hsts", "plain_http"):
            if getattr(settings, name):
                return name, InvalidError(f"{option(name)} is for a relay with TLS", hint=hint)
    return None


def load_zones(*, directory: Path | None = None) -> dict[str, Zone]:
    """All zones of the settings, by name; a zone is what the first file that has it says."""
    return {
        name: _zone(sources, name)
        for sources in [read_sources({}, directory)]
        for name in _zone_names(sources)
    }


def load_zone(name: str, *, directory: Path | None = None) -> Zone:
    """The zone ``name``. Raises InvalidError, with the names there are."""
    return _zone(read_sources({}, directory), name)


def _load(
    kind: type[Settings],
    section: str,
    overrides: Mapping[str, object],
    sources: Sources,
    named: Callable[[str], str],
) -> Settings:
    levels = [_given(kind, overrides, named), *sources.levels(readers_of(kind), section)]
    return resolve(kind, levels, sources)[0]


# --- from levels to settings --------------------------------------------------------------------


def resolve(kind: type[Settings], levels: Sequence[Level], sources: Sources) -> tuple[Settings, Level]:
    """The settings that ``levels`` make, and where each comes from. Raises the first mistake there is."""
    mistakes = [
        *misspelt(sources.environ, KNOWN),
        *chain.from_iterable(map(structure, sources.files)),
        *filter(None, map(conflict, levels)),
    ]
    counting, distrust = TRUST[kind](levels)
    if distrust is not None:
        mistakes.append(distrust)
    if mistakes:
        raise mistakes[0].placed
    origins = _merge(counting)
    readers = readers_of(kind)
    make: Any = kind
    return make(**{name: read_value(given, name, readers[name]) for name, given in origins.items()}), origins


def read_value(given: Given, name: str, reader: Reader) -> Any:
    """The value of the setting ``name``. Raises what the reader raises, with the place."""
    try:
        return parse_value(given, name, reader)
    except TunnelkitError as error:
        raise Mistake.of(given, error).placed from None


def parse_value(given: Given, name: str, reader: Reader) -> Any:
    """:func:`read_value` whose errors do not say the place."""
    value = reader(given.value)
    if error := trust.foreign_file(name, given):
        raise error
    if name in _PATHS and value not in _NO_PATHS:
        return _absolute(given.base, value)
    return value


def _absolute(base: Path, paths: Any) -> Any:
    if isinstance(paths, tuple):
        return tuple(_absolute(base, path) for path in paths)
    return str((base / Path(paths).expanduser()).absolute())


def conflict(level: Level) -> Mistake | None:
    """What is wrong with a source that has both forms of the token."""
    if not level.keys() >= _TOKEN:
        return None
    first, second = level["token"], level["token_file"]
    error = InvalidError(f"Both {first.name} and {second.name} are given", hint="Give one of the two")
    return Mistake(error, "", second.path, second.line)


def _given(kind: type[Any], overrides: Mapping[str, object], named: Callable[[str], str]) -> Level:
    known = readers_of(kind)
    for name in overrides.keys() - known.keys():
        raise InvalidError(f"There is no setting {name!r} in tunnelkit", hint=f"There are {', '.join(known)}")
    return {name: Given(value, named(name)) for name, value in overrides.items() if value is not None}


def _without(names: Iterable[str], level: Level) -> Level:
    return {name: given for name, given in level.items() if name not in names}


def _merge(levels: Iterable[Level]) -> Level:
    merged: Level = {}
    for level in levels:
        decided = merged.keys() | (_TOKEN if merged.keys() & _TOKEN else set())
        merged |= {name: given for name, given in level.items() if name not in decided}
    return merged


# --- the tables of a file -----------------------------------------------------------------------


def structure(file: SettingsFile) -> Iterator[Mistake]:
    """Keys and tables of ``file`` that are none."""
    tables = {section: kind for section, kind in SECTIONS.items() if section}
    names = (name for section in tables for name in section)
    yield from file.unknown([*readers_of(AgentSettings), *names, "zones"])
    for section, kind in tables.items():
        yield from _no_table(file, *section)
        yield from file.unknown(readers_of(kind), *section)
    yield from _no_table(file, "zones")
    for name in file.table("zones"):
        yield from _no_table(file, "zones", name)
        try:
            check_name(name, what="zone")
        except InvalidError as error:
            yield file.mistake(error, "zones", name)
        yield from file.unknown(readers_of(Zone), "zones", name)


def _no_table(file: SettingsFile, *section: str) -> Iterator[Mistake]:
    *above, last = section
    if not isinstance(file.table(*above).get(last, {}), dict):
        name = ".".join(section)
        hint = f"Write [{'zones.NAME' if name == 'zones' else name}] above its settings"
        yield file.mistake(InvalidError(f"{name} is not a table", hint=hint), *section)


def _zone_names(sources: Sources) -> list[str]:
    return list(dict.fromkeys(name for file in sources.files for name in file.table("zones")))


def _zone_file(sources: Sources, name: str) -> SettingsFile:
    check_name(name, what="zone")
    for file in sources.files:
        if name in file.table("zones"):
            return file
    names = _zone_names(sources)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"There are {', '.join(names)}" if names else f"Write [zones.{name}] into {FILE_NAME}"
    raise InvalidError(f"There is no zone {name!r}", hint=f"Is it {close[0]!r}?" if close else hint)


def zone_level(sources: Sources, name: str) -> Level:
    """What the zone ``name`` says of its relay. Raises InvalidError where there is none."""
    shared = readers_of(Zone).keys() & readers_of(AgentSettings).keys()
    return _zone_file(sources, name).level(shared, "zones", name)


def _zone(sources: Sources, name: str) -> Zone:
    for mistake in chain.from_iterable(map(structure, sources.files)):
        raise mistake.placed
    file = _zone_file(sources, name)
    readers = readers_of(Zone)
    level = file.level(readers, "zones", name)
    if (contradiction := conflict(level)) is not None:
        raise contradiction.placed
    values = {key: read_value(given, key, readers[key]) for key, given in level.items()}
    return Zone(name=name, own=file.own, **values)
