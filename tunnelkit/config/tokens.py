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

from tunnelkit.config.masked import Masked
from tunnelkit.errors import AuthMissingError, InvalidError, TunnelkitError

__all__ = ["RelayToken", "read_token", "read_token_file", "relay_token", "relay_tokens", "tokens_in"]

MAX_TOKEN = 1024
"""Bytes of a token, as a relay takes them."""

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


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidError("Not a text")
    return value.strip()


def read_token(value: object) -> Masked:
    """An agent's token."""
    text = (value.reveal() if isinstance(value, Masked) else _text(value)).strip()
    if not text:
        raise AuthMissingError("The token is empty")
    # RFC 6750 §2.1 allows fewer; what is not visible ASCII does not survive an HTTP header.
    if len(text) > MAX_TOKEN or not all("!" <= character <= "~" for character in text):
        raise InvalidError(
            "The token is malformed",
            hint=f"A token has 1 to {MAX_TOKEN} visible ASCII characters, and no space among them",
        )
    return Masked(text)


def read_token_file(value: object) -> str:
    """The name of a file with tokens."""
    if not (path := _text(value)):
        raise AuthMissingError("The name of the file with the token is empty")
    return path


def relay_token(value: object) -> RelayToken:
    """A token with its rights: a line of a relay's token file."""
    if isinstance(value, RelayToken):
        return value
    first, *words = (value.reveal() if isinstance(value, Masked) else _text(value)).split() or [""]
    token = read_token(first).reveal()
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
    """One token or several."""
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
