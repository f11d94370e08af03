"""What all errors have in common, and those of a call that can never work."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "InvalidError",
    "InvalidNameError",
    "InvalidPortError",
    "InvalidTargetError",
    "TunnelkitError",
    "UsageError",
]


class TunnelkitError(Exception):
    """Base of all errors of this package.

    ``what`` says what happened, and to what; ``hint`` says what to do about it. Both are one line,
    made for a person, and never hold a secret.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.what}. {self.hint} [{self.code}]" if self.hint else f"{self.what} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.what, self.hint)


def _restore(kind: type[TunnelkitError], what: str, hint: str) -> TunnelkitError:
    return kind(what, hint=hint)


class InvalidError(TunnelkitError, ValueError):
    """A call, an option or a setting that can never work as given."""

    code = "invalid"
    exit_status = 2


class UsageError(InvalidError):
    """A command line that is none of ours: an unknown command or option, an argument too few or too many."""

    code = "usage"
    exit_status = 2


class InvalidPortError(InvalidError):
    """A port that is no port, or 0 where a port has to be named."""

    code = "invalid_port"
    exit_status = 10
    default_hint = "Ports are whole numbers from 1 to 65535"


class InvalidNameError(InvalidError):
    """A tunnel name that cannot be a host name label, or is reserved."""

    code = "invalid_name"
    exit_status = 9
    default_hint = "A name has 1 to 63 letters, digits and hyphens, and neither starts nor ends with a hyphen"


class InvalidTargetError(InvalidError):
    """A local target that is none of PORT, HOST:PORT, unix:/path or a URL."""

    code = "invalid_target"
    exit_status = 11
    default_hint = "A target is PORT, HOST:PORT, unix:/path or http://HOST:PORT"
