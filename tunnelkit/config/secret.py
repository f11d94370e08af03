"""Secrets: environment variables that do not show."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

from tunnelkit.config.audit import actor
from tunnelkit.config.both_ways import both_ways
from tunnelkit.config.dotenv import find_dotenv, read_dotenv
from tunnelkit.config.environment import environment
from tunnelkit.config.files import expanded
from tunnelkit.config.home import shared_store
from tunnelkit.config.masked import Masked
from tunnelkit.config.names import check_keys, check_name, check_values
from tunnelkit.config.store import Kind, Ref, Write
from tunnelkit.errors import AlreadyExistsError, InvalidError, NotFoundError

__all__ = ["Secret", "SecretInfo", "SecretManager"]


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be known of a secret. Times are aware, in UTC."""

    name: str | None
    created_at: datetime
    created_by: str | None
    keys: tuple[str, ...] = ()
    """The names of its variables, sorted."""
    version: int | None = None
    last_used_at: datetime | None = None
    """When its values were last read, to the minute."""
    last_used_by: str | None = None


class SecretManager:
    """``Secret.objects``: the secrets that are stored under a name."""

    @both_ways
    def create(
        self,
        name: str,
        env_dict: Mapping[str, str | None],
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
    ) -> None:
        """Store a secret. ``allow_existing``: do nothing where there is one of that name already.

        Raises InvalidError, AlreadyExistsError, NotFoundError for the environment, StoreError.
        """
        ref = _ref(name, environment_name)
        try:
            shared_store().write(ref, check_values(env_dict), mode=Write.CREATE)
        except AlreadyExistsError:
            if not allow_existing:
                raise

    @both_ways
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str | None = None,
    ) -> Secrets:
        """The secrets of an environment, newest first.

        ``created_before``: a time, or one as an ISO 8601 text; without a zone it is local time.
        """
        if max_objects is not None and max_objects < 0:
            raise InvalidError("max_objects is below zero")
        before = None if created_before is None else _time(created_before)
        name = environment(environment_name)
        entries = shared_store().entries(Kind.SECRET, name)
        entries = [entry for entry in entries if before is None or entry.created_at < before]
        entries.sort(key=lambda entry: entry.created_at, reverse=True)
        return [Secret.from_name(entry.ref.name, environment_name=name) for entry in entries[:max_objects]]

    @both_ways
    def delete(self, name: str, *, allow_missing: bool = False, environment_name: str | None = None) -> None:
        """Delete a secret with all its versions. Raises NotFoundError unless ``allow_missing``."""
        shared_store().delete(_ref(name, environment_name), allow_missing=allow_missing)


class Secret:
    """Environment variables for a function or a program; their values never show.

    One from :meth:`from_name` is a reference: it is looked up whenever it is used, and pickles as a name.
    The others hold values in this process, and pickling them is an error.
    """

    __slots__ = ("_created_at", "_environment", "_name", "_required", "_values")

    objects: ClassVar[SecretManager] = SecretManager()

    _name: str | None
    _environment: str | None
    _required: tuple[str, ...]
    _values: dict[str, Masked] | None  # None: a reference
    _created_at: datetime

    def __init__(self) -> None:
        raise InvalidError("A Secret is not made by calling it", hint="Use Secret.from_name, from_dict, …")

    @classmethod
    def _make(
        cls,
        *,
        name: str | None = None,
        environment_name: str | None = None,
        required: tuple[str, ...] = (),
        values: dict[str, Masked] | None = None,
    ) -> Self:
        self = object.__new__(cls)
        self._name = name
        self._environment = environment_name
        self._required = required
        self._values = values
        self._created_at = datetime.now(UTC)
        return self

    @classmethod
    def from_name(
        cls, label: str, *, environment_name: str | None = None, required_keys: Iterable[str] = ()
    ) -> Self:
        """The secret stored as ``label``.

        ``environment_name``: None is what ``TUNNELKIT_ENVIRONMENT`` says when the secret is used, or
        ``main``. Nothing is looked up yet: a missing secret, or one that lacks a key of
        ``required_keys``, raises NotFoundError when it is first used.
        """
        return cls._make(
            name=check_name(label, what="secret"),
            environment_name=None if environment_name is None else environment(environment_name),
            required=check_keys(required_keys),
        )

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None], *, name: str | None = None) -> Self:
        """A secret of these variables, in this process alone; those that are None are left out.

        ``name`` is for people to recognise it by; nothing is stored under it. Raises InvalidError.
        """
        return cls._make(
            name=None if name is None else check_name(name, what="secret"), values=check_values(env_dict)
        )

    @classmethod
    def from_dotenv(
        cls, path: str | PathLike[str] | None = None, *, filename: str = ".env", interpolate: bool = True
    ) -> Self:
        """A secret of what a ``.env`` file sets, as python-dotenv reads it.

        ``path``: the file; or a directory, or a Python file (``__file__``), from which ``filename`` is
        searched upward. None: searched from the working directory. ``interpolate=False`` leaves
        ``${NAME}`` as it stands. Raises NotFoundError and InvalidError.
        """
        start = Path() if path is None else expanded(path)
        if start.is_dir():
            start = find_dotenv(filename, start)
        elif start.suffix == ".py":
            start = find_dotenv(filename, start.parent)
        return cls.from_dict(read_dotenv(start, interpolate=interpolate))

    @classmethod
    def from_local_environ(cls, env_keys: Iterable[str]) -> Self:
        """A secret of variables of this process, as they are now. Raises NotFoundError for one it lacks."""
        keys = check_keys(env_keys)
        if missing := [key for key in keys if key not in os.environ]:
            raise NotFoundError(
                f"The environment has no {', '.join(missing)}", hint="Set it, or leave it out"
            )
        return cls.from_dict({key: os.environ[key] for key in keys})

    @property
    def name(self) -> str | None:
        """The name it is stored under, or was given."""
        return self._name

    @both_ways
    def reveal(self) -> dict[str, str]:
        """The variables with their values. Raises NotFoundError, StoreError."""
        values = self._values
        if values is None:
            values = shared_store().read(self._ref())
            if missing := [key for key in self._required if key not in values]:
                hint = f"Add it with: tunnelkit secret update {self._name} {missing[0]}=-"
                raise NotFoundError(f"The secret {self._name!r} has no {', '.join(missing)}", hint=hint)
        return {key: value.reveal() for key, value in values.items()}

    @both_ways
    def info(self) -> SecretInfo:
        """What may be known of it. Raises NotFoundError, StoreError."""
        if self._values is not None:
            return SecretInfo(self._name, self._created_at, actor(), tuple(sorted(self._values)))
        it = shared_store().entry(self._ref())
        return SecretInfo(
            it.ref.name, it.created_at, it.created_by, it.keys, it.version, it.last_used_at, it.last_used_by
        )

    @both_ways
    def update(self, env_dict: Mapping[str, str | None], *, remove: Iterable[str] = ()) -> None:
        """Set variables of a stored secret, as a new version; those that are not named stay.

        Those that are None are left alone; ``remove`` takes variables away. Raises NotFoundError,
        InvalidError (also where the secret is not a stored one), StoreError.
        """
        values = check_values(env_dict)
        shared_store().write(self._ref(), values, mode=Write.UPDATE, remove=check_keys(remove))

    def _ref(self) -> Ref:
        if self._values is not None or self._name is None:
            hint = "Store it with Secret.objects.create, and use Secret.from_name"
            raise InvalidError("This secret is stored nowhere", hint=hint)
        return _ref(self._name, self._environment)

    def __repr__(self) -> str:
        if self._values is not None:
            name = "" if self._name is None else f", name={self._name!r}"
            return f"Secret.from_dict(<{', '.join(self._values) or 'nothing'}>{name})"
        where = "" if self._environment is None else f", environment_name={self._environment!r}"
        return f"Secret.from_name({self._name!r}{where})"

    def __copy__(self) -> Self:
        return self  # nothing of it ever changes

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        if self._values is not None:
            raise InvalidError(
                "A Secret that holds values is not pickled, for they would be in the clear",
                hint="Store it with Secret.objects.create, and pass Secret.from_name",
            )
        return _reference, (self._name, self._environment, self._required)


Secrets: TypeAlias = list[Secret]
"""As ``list`` is called where ``list`` is a method."""


def _reference(name: str, environment_name: str | None, required: tuple[str, ...]) -> Secret:
    return Secret.from_name(name, environment_name=environment_name, required_keys=required)


def _ref(name: str, environment_name: str | None) -> Ref:
    return Ref(Kind.SECRET, check_name(name, what="secret"), environment(environment_name))


def _time(value: datetime | str) -> datetime:
    """As an aware time. Raises InvalidError."""
    if not isinstance(value, str):
        return value.astimezone(UTC)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        raise InvalidError(f"Not a time: {value[:40]!r}", hint="Give it as 2026-01-31T12:00") from None
