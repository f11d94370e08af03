"""What names, variables and values may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tunnelkit.config.masked import Masked
from tunnelkit.errors import InvalidError, InvalidNameError

__all__ = ["MAX_KEYS", "MAX_SIZE", "check_key", "check_keys", "check_name", "check_size", "check_values"]

MAX_KEYS = 1000
"""Variables of one secret: ten times what the largest .env files have."""

MAX_SIZE = 4 << 20
"""Bytes of one secret's values together. Linux passes a program 2 MiB of environment by default."""

MAX_SHOWN = 80
"""Characters of a wrong name in a message; nobody reads on beyond them."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")

MAX_KEY = 255
"""Characters, as of a file's name."""


def check_name(name: object, *, what: str) -> str:
    """``name``, if it can be one. ``what`` it names: secret, proxy, environment. Raises InvalidNameError."""
    if not isinstance(name, str):
        raise InvalidNameError(f"The name of a {what} is a str, not {type(name).__name__}", hint="")
    if not _NAME.fullmatch(name):
        # Where NAME was forgotten, KEY=VALUE stands in its place: what may be that is not shown.
        shown = repr(name) if len(name) <= MAX_SHOWN and "=" not in name else "What is given"
        raise InvalidNameError(
            f"{shown} cannot be the name of a {what}" if name else f"The name of the {what} is empty",
            hint="A name has 1 to 64 letters, digits, dots, hyphens and underscores",
        )
    return name


def check_key(key: object) -> str:
    """``key``, if an environment variable can be called that. Raises InvalidError.

    POSIX, Base Definitions §8.1, with the lower case letters that it leaves to applications.
    """
    if not isinstance(key, str):
        raise InvalidError(f"The name of a variable is a str, not {type(key).__name__}")
    if not key:
        raise InvalidError("A variable has no name", hint=_KEY_HINT)
    if not _KEY.fullmatch(key):
        raise InvalidError(_wrong_with(key), hint=_KEY_HINT)
    return key


_KEY_HINT = "A name has letters, digits and underscores, and does not begin with a digit"


def _wrong_with(key: str) -> str:
    """Why ``key`` is no name. It is not shown: what stands there may be a line of somebody's private key."""
    if len(key) > MAX_KEY:
        return f"The name of a variable has {len(key):,} characters"
    place, wrong = next(
        (place, character)
        for place, character in enumerate(key, 1)
        if not _KEY.fullmatch(character) and not (place > 1 and character in "0123456789")
    )
    return f"The name of a variable cannot have {wrong!r} as its character {place} of {len(key)}"


def check_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """Several names of variables. A single ``str`` is refused: it would be taken letter by letter."""
    if isinstance(keys, str):
        raise InvalidError("One str where names of variables belong", hint="Give a list of them")
    return tuple(map(check_key, keys))


def check_values(values: Mapping[str, object]) -> dict[str, Masked]:
    """Variables as a program's environment can hold them, without those that are None.

    Raises InvalidError, which names the variable and never shows its value.
    """
    if not isinstance(values, Mapping):
        raise InvalidError(f"A secret is made from a dict, not {type(values).__name__}")
    for key in values:
        check_key(key)
    checked = {key: _value(key, value) for key, value in values.items() if value is not None}
    check_size(checked)
    return checked


def check_size(variables: Mapping[str, Masked]) -> None:
    """Raise InvalidError if these are more than one secret holds."""
    if len(variables) > MAX_KEYS:
        raise InvalidError(f"A secret of {len(variables):,} variables", hint=f"{MAX_KEYS:,} is the limit")
    size = sum(len(value.reveal().encode(errors="surrogateescape")) for value in variables.values())
    if size > MAX_SIZE:
        raise InvalidError(f"A secret of {size:,} bytes", hint=f"{MAX_SIZE:,} is the limit")


def _value(key: str, value: object) -> Masked:
    if not isinstance(value, str):
        raise InvalidError(
            f"The value of {key} is a str, not {type(value).__name__}", hint="Put quotes around it"
        )
    if "\0" in value:
        raise InvalidError(
            f"The value of {key} has a NUL in it", hint="No environment can hold that: encode it"
        )
    if not _is_encodable(value):
        raise InvalidError(
            f"The value of {key} has characters without bytes", hint="Leave out lone surrogates"
        )
    return Masked(value)


def _is_encodable(value: str) -> bool:
    # Outside of the except clause nothing refers to the error any more, which holds the value.
    try:
        value.encode(errors="surrogateescape")  # as os.environ keeps bytes that are no UTF-8
    except UnicodeEncodeError:
        return False
    return True
