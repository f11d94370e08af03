"""Secrets: environment variables that do not show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from typing import ClassVar, Self

from tunnelkit.config.both_ways import both_ways

__all__ = ["Secret", "SecretInfo", "SecretManager"]


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be known of a secret. Times are aware, in UTC."""

    name: str | None
    created_at: datetime
    created_by: str | None
    keys: tuple[str, ...] = ()
    """The names of its variables."""
    version: int | None = None
    last_used_at: datetime | None = None
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
        raise NotImplementedError

    @both_ways
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str | None = None,
    ) -> list[Secret]:
        """The secrets of an environment, newest first.

        ``created_before``: a time, or an ISO 8601 text; without a zone it is local time.
        """
        raise NotImplementedError

    @both_ways
    def delete(self, name: str, *, allow_missing: bool = False, environment_name: str | None = None) -> None:
        """Delete a secret with all its versions. Raises NotFoundError unless ``allow_missing``."""
        raise NotImplementedError


class Secret:
    """Environment variables for a function or a program; their values never show.

    One from :meth:`from_name` is a reference: it is looked up when it is used, each time, and pickles as a
    name. The others hold values, and pickling them is an error.
    """

    objects: ClassVar[SecretManager] = SecretManager()

    @classmethod
    def from_name(
        cls, label: str, *, environment_name: str | None = None, required_keys: Iterable[str] = ()
    ) -> Self:
        """The secret stored as ``label``; ``environment_name`` as in :func:`environment`.

        Nothing is looked up yet: a missing secret, or one that lacks a key of ``required_keys``, raises
        NotFoundError when it is first used.
        """
        raise NotImplementedError

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None], *, name: str | None = None) -> Self:
        """A secret of these variables, in this process alone; those that are None are left out.

        ``name`` is for people to recognise it by; it is stored nowhere. Raises InvalidError.
        """
        raise NotImplementedError

    @classmethod
    def from_dotenv(
        cls, path: str | PathLike[str] | None = None, *, filename: str = ".env", interpolate: bool = True
    ) -> Self:
        """A secret of what a ``.env`` file sets, as python-dotenv reads it.

        ``path``: the file; or a directory, or a Python file, from which ``filename`` is searched upward.
        None: searched from the working directory. Raises NotFoundError and InvalidError.
        """
        raise NotImplementedError

    @classmethod
    def from_local_environ(cls, env_keys: Iterable[str]) -> Self:
        """A secret of variables of this process, as they are now. Raises NotFoundError for one it lacks."""
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        """The name it is stored under, or was given."""
        raise NotImplementedError

    @both_ways
    def reveal(self) -> dict[str, str]:
        """The variables with their values. Raises NotFoundError, StoreError."""
        raise NotImplementedError

    @both_ways
    def info(self) -> SecretInfo:
        """What may be known of it. Raises NotFoundError, StoreError."""
        raise NotImplementedError

    @both_ways
    def update(self, env_dict: Mapping[str, str | None], *, remove: Iterable[str] = ()) -> None:
        """Set variables of a stored secret, as a new version; those that are not named stay.

        Raises NotFoundError, InvalidError (also where the secret is not a stored one), StoreError.
        """
        raise NotImplementedError
