"""Tokens as settings have them: one for an agent, several for a relay, with the rights of each.

A relay's token file has a token a line; empty lines and those that begin with ``#`` do not count. Behind
a token may stand what it may do beyond tunnels, words with a space between::

    3kT9uWq…
    Jx02bHz…  by=@relay,office-*,zone:eu-west  allow=*.example.com:443  allow=10.1.0.0/16:5432
    Qr77vPd…  by=  offer=home-*

``by``: what its proxies may leave by (``tunnelkit egress --via``): ``@relay``, the relay's own addresses;
``@own``, exits that the same token offers; names of exits and zones, with wildcards. Without it: ``@relay``
and ``@own``. ``allow`` and ``deny``: where to, rules of the egress proxy in their order, in addition to the
exit's own. ``offer``: names of exits that it may offer (``tunnelkit exit``); without it any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TypeVar

from tunnelkit.config import readers
from tunnelkit.config.masked import Masked
from tunnelkit.errors import AuthMissingError, InvalidError, TunnelkitError

__all__ = ["RelayToken", "relay_token", "relay_tokens", "tokens_in"]

MAX_FILE = 1 << 20
"""Bytes read of a token file: room for ten thousand tokens, and none for a wrong path."""

Token = TypeVar("Token", bound=Masked)


class RelayToken(Masked):
    """A token that a relay accepts, and its rights; None where the line says nothing of them."""

    __slots__ = ("by", "offers", "rules")

    def __init__(
        self,
        text: str = "",
        *,
        by: tuple[str, ...] | None = None,
        rules: tuple[str, ...] = (),
        offers: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(text)
        self.by = by
        self.rules = rules
        self.offers = offers


def relay_token(value: object) -> RelayToken:
    """A token with its rights: a line of a relay's token file."""
    if isinstance(value, RelayToken):
        return value
    first, *words = (value.reveal() if isinstance(value, Masked) else readers.word(value)).split() or [""]
    token = readers.token(first).reveal()
    rights: dict[str, tuple[str, ...]] = {}
    rules: list[str] = []
    for word in words:
        name, equals, argument = word.partition("=")
        if name in ("allow", "deny") and argument:
            rules.append(f"{name} {argument}")
        elif name in ("by", "offer") and equals and name not in rights:
            rights[name] = tuple(filter(None, argument.split(",")))
        else:
            # The word may be a part of a token that was cut in two: it is not shown.
            raise InvalidError(
                "What stands behind a token is no right of it",
                hint="Write by=…, offer=…, allow=… and deny=… with a space between, and one token a line",
            )
    return RelayToken(token, by=rights.get("by"), rules=tuple(rules), offers=rights.get("offer"))


def relay_tokens(value: object) -> tuple[RelayToken, ...]:
    """a token, with its rights behind it, or a list"""
    if isinstance(value, str | Masked):
        return (relay_token(value),)
    if not isinstance(value, Iterable) or not (tokens := tuple(map(relay_token, value))):
        raise AuthMissingError("There is no token")
    return tokens


def tokens_in(path: str, read: Callable[[object], Token]) -> tuple[Token, ...]:
    """The tokens in a file, at least one; ``-`` is standard input."""
    name = "Standard input" if path == "-" else path
    try:
        text = sys.stdin.read(MAX_FILE) if path == "-" else _read(Path(path))
    except OSError as error:
        _no_token(f"{name} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        _no_token(f"{name} is no text")
    lines = (line.strip() for line in text.splitlines())
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        _no_token(f"{name} holds no token")
    try:
        return tuple(map(read, tokens))
    except TunnelkitError as error:
        raise type(error)(f"{name}: {error.what}", hint=error.hint) from None


def _no_token(what: str) -> NoReturn:
    raise AuthMissingError(what, hint="Give a file with the token in it, which this user may read")


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_FILE)
