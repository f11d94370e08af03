"""The whole configuration: what holds and where it comes from, and everything that is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tunnelkit.config.environment import environment
from tunnelkit.config.files import read_private
from tunnelkit.config.keys import KeySettings, parse_key
from tunnelkit.config.loading import (
    KNOWN,
    SECTIONS,
    TRUST,
    conflict,
    load_zones,
    open_to_some,
    parse_value,
    resolve,
    several_tokens,
    structure,
    tls_contradiction,
)
from tunnelkit.config.masked import Masked
from tunnelkit.config.readers import token
from tunnelkit.config.settings import AgentSettings, RelaySettings
from tunnelkit.config.sources import (
    Given,
    Level,
    Mistake,
    Sources,
    misspelt,
    read_sources,
    readers_of,
)
from tunnelkit.config.tokens import relay_token, relay_tokens, tokens_in
from tunnelkit.config.variables import VARIABLES, log_level
from tunnelkit.config.zones import Zone
from tunnelkit.errors import InvalidError, TunnelkitError

__all__ = ["MASK", "Shown", "check", "show"]

_READ = {"authorized_keys", "ca", "identity_file", "known_hosts", "tls_cert", "tls_key", "users"}
"""Files that have to be there. A relay makes its host key itself."""

MASK = "…"
"""What stands for a secret value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """One setting: its value, as JSON has it and with secrets masked, and where that comes from."""

    name: str
    value: object
    source: str
    """``default``, ``environment``, or the file."""
    line: int = 0
    """In the file; 0 elsewhere."""


def show(*, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> list[Shown]:
    """Every setting there is. Raises the first mistake, as whoever uses the settings does."""
    sources = read_sources(environ, directory)
    shown = []
    for section, kind in SECTIONS.items():
        levels = sources.levels(readers_of(kind), *section)
        settings, origins = resolve(kind, levels, sources)
        shown += [
            _shown((*section, name), getattr(settings, name), origins.get(name)) for name in readers_of(kind)
        ]
    for zone in load_zones(directory=directory).values():
        file = next(file for file in sources.files if zone.name in file.table("zones"))
        for name, given in file.level(readers_of(Zone), "zones", zone.name).items():
            shown.append(_shown(("zones", zone.name, name), getattr(zone, name), given))
    for variable in VARIABLES:
        value = sources.environ.get(variable.name)
        if value is None:
            shown.append(Shown(variable.name, variable.default.replace("`", "") or None, "default"))
        else:
            masked = MASK if value and variable.secret else value
            shown.append(Shown(variable.name, masked, "environment"))
    return shown


def _shown(path: Sequence[str], value: object, given: Given | None) -> Shown:
    name = ".".join(path)
    if given is None:
        return Shown(name, _plain(value), "default")
    if given.path is None:
        return Shown(name, _plain(value), given.name)
    return Shown(name, _plain(value), str(given.path), given.line)


def _plain(value: object) -> object:
    match value:
        case Masked():
            return MASK if value else None
        case tuple():
            return [_plain(one) for one in value] or None
        case range():
            return f"{value.start}-{value.stop - 1}" if value else None
        case Mapping():
            return dict(value)
        case "":
            return None
    return value


# --- mistakes -----------------------------------------------------------------------------------


def check(*, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> list[Mistake]:
    """Every mistake in the environment and in the files, in the order of their lines."""
    found: list[Mistake] = []
    sources = read_sources(environ, directory, failed=found.append)
    found += chain(
        misspelt(sources.environ, KNOWN),
        _variables(sources.environ),
        *map(structure, sources.files),
        *(_values(readers, level) for readers, level in _levels(sources)),
    )
    if not found:
        found += _together(sources)
    once = {(it.path, it.line, it.name, it.error.what): it for it in found}
    return sorted(once.values(), key=lambda it: (str(it.path or ""), it.line))


def _levels(sources: Sources) -> Iterator[tuple[Mapping[str, Any], Level]]:
    """What each source has of each table."""
    for section, kind in SECTIONS.items():
        readers = readers_of(kind)
        yield from ((readers, level) for level in sources.levels(readers, *section))
    for file in sources.files:
        readers = readers_of(Zone)
        yield from ((readers, file.level(readers, "zones", name)) for name in file.table("zones"))


def _values(readers: Mapping[str, Any], level: Level) -> Iterator[Mistake]:
    if (contradiction := conflict(level)) is not None:
        yield contradiction
    for name, given in level.items():
        try:
            value = parse_value(given, name, readers[name])
            if name == "token_file" and value != "-":
                tokens_in(value, relay_token if readers["token"] is relay_tokens else token)
            elif name in _READ:
                for path in value if isinstance(value, tuple) else (value,):
                    _readable(path)
        except TunnelkitError as error:
            yield Mistake.of(given, error)


def _readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from None


def _variables(environ: Mapping[str, str]) -> Iterator[Mistake]:
    looks: list[Callable[[], object]] = [
        lambda: log_level(environ),
        lambda: environment(environ=environ),
        lambda: KeySettings.read(environ),
    ]
    about_keys = ("MASTER_KEY", "PASSPHRASE")
    looks += [
        partial(_key, environ, it.name)
        for it in VARIABLES
        if it.name in environ and any(word in it.name for word in about_keys)
    ]
    for look in looks:
        try:
            look()
        except TunnelkitError as error:
            yield Mistake(error)


def _key(environ: Mapping[str, str], variable: str) -> None:
    """Read what a variable says of the store's key."""
    name = variable.removeprefix("TUNNELKIT_")
    given = KeySettings(frozenset({(name, Masked(environ[variable]))})).get(name)
    if given is not None and name.endswith("_FILE"):
        given = read_private(Path(given).expanduser())
    if given is not None and "MASTER_KEY" in name:
        parse_key(given, "environment", what=variable)


def _together(sources: Sources) -> Iterator[Mistake]:
    """What each source may say, but not beside the others."""
    for section, kind in SECTIONS.items():
        levels = sources.levels(readers_of(kind), *section)
        if (distrust := TRUST[kind](levels)[1]) is not None:
            yield distrust
            continue
        settings, origins = resolve(kind, levels, sources)
        if isinstance(settings, RelaySettings):
            if settings.open and (settings.token or settings.token_file or settings.authorized_keys):
                yield Mistake.of(origins["open"], open_to_some(settings))
            if (contradiction := tls_contradiction(settings)) is not None:
                name, error = contradiction
                yield Mistake.of(origins[name], error)
        elif (
            isinstance(settings, AgentSettings)
            and settings.token_file not in ("", "-")
            and (count := len(tokens_in(settings.token_file, token))) > 1
        ):
            yield Mistake.of(origins["token_file"], several_tokens(settings.token_file, count))
