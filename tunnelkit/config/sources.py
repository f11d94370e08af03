"""Where settings stand: calls, the environment, and the files called ``tunnelkit.toml``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from tunnelkit.config import toml
from tunnelkit.config.readers import Reader
from tunnelkit.errors import AuthMissingError, InvalidError, TunnelkitError

__all__ = [
    "FILE_NAME",
    "MAX_FILE",
    "Given",
    "Level",
    "Mistake",
    "SettingsFile",
    "Sources",
    "environment_level",
    "misspelt",
    "read_file",
    "read_sources",
    "readers_of",
    "user_file",
    "variables_of",
]

FILE_NAME = "tunnelkit.toml"
PREFIX = "TUNNELKIT_"

PREFIXED = ("egress", "exit")
"""Tables whose variables are named after them: ``TUNNELKIT_EGRESS_LISTEN``."""

MAX_FILE = 1 << 20
"""Bytes read of a settings or token file: room for ten thousand tokens, and none for a wrong path."""


class Given(NamedTuple):
    """One value, and where it stands."""

    value: object
    name: str
    """How the person who gave it knows it: ``--relay``, ``TUNNELKIT_RELAY``, ``serve.domain``."""
    path: Path | None = None
    line: int = 0
    own: bool = True
    """Whether this user said so, and not a file that happens to be in the working directory."""

    @property
    def place(self) -> str:
        """``FILE:LINE: name``, or the name alone."""
        return f"{self.path}:{self.line}: {self.name}" if self.path else self.name

    @property
    def base(self) -> Path:
        """The directory that a relative path counts from."""
        return self.path.parent if self.path else Path()


Level = dict[str, Given]
"""What one source has, by the names of the settings."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in the configuration that can never work."""

    error: TunnelkitError
    """What is wrong, without the place."""
    name: str = ""
    """The variable, option or key. Empty: the error names it."""
    path: Path | None = None
    line: int = 0

    @classmethod
    def of(cls, given: Given, error: TunnelkitError) -> Mistake:
        """``error`` in what is ``given``."""
        return cls(error, given.name, given.path, given.line)

    @property
    def placed(self) -> TunnelkitError:
        """The error, which says where it is."""
        places = [f"{self.path}:{self.line}" if self.path else "", self.name]
        what = ": ".join([*filter(None, places), self.error.what])
        return type(self.error)(what, hint=self.error.hint)


def readers_of(kind: type[Any]) -> dict[str, Reader]:
    """How each field of the settings ``kind`` is read, as its annotation says."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


# --- the environment ----------------------------------------------------------------------------


def variables_of(names: Iterable[str], *section: str) -> dict[str, str]:
    """The settings ``names`` of a section that a variable can set, and that variable.

    What a relay lends (``serve.egress_source_ip``) is not set by one: that would be the proxy's own.
    """
    prefix = PREFIX + "".join(f"{name.upper()}_" for name in section if name in PREFIXED)
    taken = tuple(f"{name}_" for name in PREFIXED) if prefix == PREFIX else ()
    return {name: prefix + name.upper() for name in names if not name.startswith(taken)}


def environment_level(environ: Mapping[str, str], names: Iterable[str], *section: str) -> Level:
    """Which of the settings ``names`` the environment has."""
    variables = variables_of(names, *section).items()
    return {name: Given(environ[it], it) for name, it in variables if it in environ}


def misspelt(environ: Mapping[str, str], known: Iterable[str]) -> Iterator[Mistake]:
    """Variables that look like an attempt at a setting which decides whom to trust.

    Others are left alone: Kubernetes sets TUNNELKIT_PORT for a service of that name.
    """
    known = sorted(known)
    for variable in environ:
        name = variable.removeprefix(PREFIX)
        if name != variable and variable not in known and _is_about_trust(name):
            close = difflib.get_close_matches(variable, known, 1, cutoff=0)
            what = f"The environment variable {variable} is none of tunnelkit's"
            yield Mistake(AuthMissingError(what, hint=f"Is it {close[0]}?"))


def _is_about_trust(name: str) -> bool:
    words = {"TOKEN", "TOKENS", "TOKENFILE", "AUTH", "PASSWORD", "FINGERPRINT", "AUTHORIZED", "USERS"}
    return any(difflib.get_close_matches(part, words, 1, cutoff=0.75) for part in (name, *name.split("_")))


# --- files --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """One ``tunnelkit.toml``."""

    path: Path
    own: bool
    document: toml.Document

    def line(self, *keys: str) -> int:
        """Where ``keys`` stand, or else what they are in."""
        return next(
            (line for end in range(len(keys), 0, -1) if (line := self.document.lines.get(keys[:end]))), 1
        )

    def table(self, *section: str) -> Mapping[str, Any]:
        """The table of a section; empty where there is none."""
        table: Any = self.document.values
        for key in section:
            table = table.get(key, {})
        return table if isinstance(table, Mapping) else {}

    def level(self, names: Iterable[str], *section: str) -> Level:
        """Which of the settings ``names`` the section has."""
        table = self.table(*section)
        return {
            name: Given(
                table[name],
                ".".join((*section, name)),
                self.path,
                self.line(*section, name),
                self.own,
            )
            for name in names
            if name in table
        }

    def mistake(self, error: TunnelkitError, *keys: str) -> Mistake:
        """``error`` at the line of ``keys``."""
        return Mistake(error, "", self.path, self.line(*keys))

    def unknown(self, known: Iterable[str], *section: str) -> Iterator[Mistake]:
        """Keys of a section that are none of ``known``."""
        known = list(known)
        for key in self.table(*section):
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"Is it {close[0]!r}?" if close else f"There are {', '.join(known)}"
                where = f" in [{'.'.join(section)}]" if section else ""
                yield self.mistake(
                    InvalidError(f"There is no setting {key!r}{where}", hint=hint), *section, key
                )


@dataclass(frozen=True, slots=True)
class Sources:
    """All sources but the call itself, read once."""

    environ: Mapping[str, str]
    files: tuple[SettingsFile, ...]

    def levels(self, names: Iterable[str], *section: str) -> list[Level]:
        """What each source has of ``names``, the first in the order of precedence first."""
        names = list(names)
        files = [file.level(names, *section) for file in self.files]
        return [environment_level(self.environ, names, *section), *files]


def read_sources(
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    *,
    failed: Callable[[Mistake], None] | None = None,
) -> Sources:
    """The environment and the files that exist. A file that is no TOML is told to ``failed``, or raised."""
    files = []
    for path, own in _files(directory):
        try:
            files.append(read_file(path, own=own))
        except UnreadableError as error:
            if failed is None:
                raise error.mistake.placed from None
            failed(error.mistake)
    return Sources(os.environ if environ is None else environ, tuple(files))


class UnreadableError(Exception):
    """A file that cannot be read, or is no TOML."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake.placed))
        self.mistake = mistake


def read_file(path: Path, *, own: bool) -> SettingsFile:
    """One settings file. Raises UnreadableError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UnreadableError(Mistake(InvalidError(f"{path} cannot be read: {error.strerror}"))) from None
    if len(data) > MAX_FILE:
        raise UnreadableError(Mistake(InvalidError(f"{path} is longer than {MAX_FILE:,} bytes")))
    try:
        return SettingsFile(path, own, toml.parse(data))
    except toml.TomlError as error:
        mistake = Mistake(InvalidError(f"This is not TOML: {error.what}"), "", path, error.line)
        raise UnreadableError(mistake) from None


def user_file() -> Path:
    """Where the user's own settings are, whether there are any or not."""
    from platformdirs import user_config_path  # 8 ms, and only here

    return user_config_path("tunnelkit") / FILE_NAME


def _files(directory: Path | None) -> list[tuple[Path, bool]]:
    """The settings files that exist, and whether they are the user's own."""
    here, own = (directory or Path()).absolute() / FILE_NAME, user_file()
    paths = [(own, True)] if here == own else [(here, False), (own, True)]
    return [(path, is_own) for path, is_own in paths if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a service may have a home that it cannot look into
        return False
