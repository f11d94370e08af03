"""What a store of secrets and proxies does, and what it says about them.

The one implementation is :class:`~tunnelkit.config.sqlite.SqliteStore`, opened by
:func:`~tunnelkit.config.home.open_store`. Another store (a vault on the network, say) takes its place by
having these methods.

A store holds *objects*: a name and some variables, in an environment. Secrets and proxies are both
objects, of a :class:`Kind` each. Every change of an object makes a new version of it; versions are never
changed. Methods block; each is atomic, and is done for good when it returns: a power failure after that
takes nothing back. All raise StoreError and its kind, and MasterKeyError where values are read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from tunnelkit.config.masked import Masked

__all__ = [
    "AuditEntry",
    "Entry",
    "EnvironmentEntry",
    "Kind",
    "Prompt",
    "Ref",
    "Rotation",
    "Store",
    "Variables",
    "Version",
    "Write",
]

Variables = Mapping[str, Masked]
"""Values by the names of their environment variables."""

Prompt = Callable[[str, bool], str]
"""Asks a person for a passphrase: the question, and whether it is a new one (so ask twice)."""


class Kind(StrEnum):
    """What an object is for. Secrets and proxies have names of their own each."""

    SECRET = "secret"  # noqa: S105 - the word
    PROXY = "proxy"


class Ref(NamedTuple):
    """Names one object."""

    kind: Kind
    name: str
    environment: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} in environment {self.environment!r}"


class Write(StrEnum):
    """What :meth:`Store.write` does where the object exists already."""

    CREATE = "create"
    """Raise AlreadyExistsError."""

    REPLACE = "replace"
    """Write a version that has the new variables alone."""

    UPDATE = "update"
    """Write a version that has the old variables, too. Raises NotFoundError where there is no object."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object without its values. Times are aware, in UTC."""

    ref: Ref
    keys: tuple[str, ...]
    """The names of its variables, sorted."""
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    last_used_at: datetime | None = None
    """When the values were last read, to the minute; None: never."""
    last_used_by: str | None = None
    """Who read them then, and in which process."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object."""

    number: int
    keys: tuple[str, ...]
    created_at: datetime
    created_by: str
    current: bool


@dataclass(frozen=True, slots=True)
class EnvironmentEntry:
    """An environment and how much is in it."""

    name: str
    created_at: datetime
    created_by: str
    secrets: int
    proxies: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, when. Never a value."""

    time: datetime
    action: str
    """``create``, ``replace``, ``update``, ``rollback``, ``use``, ``delete``, ``rotate-key``."""
    kind: str
    """``secret``, ``proxy``, ``environment`` or ``store``."""
    environment: str
    name: str
    keys: tuple[str, ...]
    """The variables that were written; of a use, those that were read."""
    version: int | None
    actor: str
    process: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """What :meth:`Store.rotate_key` did."""

    old_key: str
    """The id of the key before."""
    new_key: str
    source: str
    """Where the new key is: ``environment``, ``file``, ``keyring``, ``passphrase`` or ``generated``."""
    rewrapped: int
    """How many data keys were wrapped again."""


class Store(Protocol):
    """Objects, their versions and environments."""

    def write(
        self, ref: Ref, variables: Variables, *, mode: Write = Write.CREATE, remove: Iterable[str] = ()
    ) -> int:
        """Write a version and return its number, from 1 on. ``remove``: variables that an update drops.

        Raises NotFoundError (the environment; to update, the object) and AlreadyExistsError.
        """
        ...

    def read(self, ref: Ref, *, version: int | None = None, is_use: bool = True) -> dict[str, Masked]:
        """The variables of an object, in its current version or another. Raises NotFoundError.

        ``is_use``: whether that is noted as a use; not where it is only shown what may be.
        """
        ...

    def entry(self, ref: Ref) -> Entry:
        """An object without its values. Raises NotFoundError."""
        ...

    def entries(self, kind: Kind, environment: str) -> list[Entry]:
        """The objects of an environment, by name. Raises NotFoundError for the environment."""
        ...

    def history(self, ref: Ref) -> list[Version]:
        """The versions that are kept, newest first. Raises NotFoundError."""
        ...

    def rollback(self, ref: Ref, version: int) -> int:
        """Write what ``version`` holds as a new version and return its number. Raises NotFoundError."""
        ...

    def delete(self, ref: Ref, *, allow_missing: bool = False) -> bool:
        """Delete an object with all its versions; whether there was one. Raises NotFoundError."""
        ...

    def environments(self) -> list[EnvironmentEntry]:
        """All environments, by name; ``main`` is always there."""
        ...

    def create_environment(self, name: str) -> None:
        """Raises AlreadyExistsError."""
        ...

    def delete_environment(self, name: str, *, allow_missing: bool = False) -> bool:
        """Delete an environment with all that is in it; whether there was one.

        Raises NotFoundError, and InvalidError for ``main``.
        """
        ...

    def audit(self, *, limit: int = 1000) -> list[AuditEntry]:
        """The newest entries of the audit log, newest first."""
        ...

    def rotate_key(self, to: str | None = None) -> Rotation:
        """Wrap every data key again, with another key-encryption key; values are not touched.

        ``to``: ``generated``, ``keyring`` or ``passphrase``; None: the key that the environment names,
        or else a new one of the same kind as now. Killed at any moment, the store stays readable, and the
        next call goes on from there.
        """
        ...

    def close(self) -> None:
        """Safe to call twice; any other method opens the store again."""
        ...
