"""TOML files with the line of every key, which ``tomllib`` does not tell.

``tomllib`` reads the file and refuses what is malformed; :func:`locate` then goes over its text again
and only has to find the keys of what is known to be well-formed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Document", "Path", "TomlError", "locate", "parse"]

Path = tuple[str | int, ...]
"""Keys from the top of the file down; a number counts the tables of a ``[[name]]``."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values, and the line (from 1) at which each key first stands."""

    values: dict[str, Any]
    lines: dict[Path, int]


class TomlError(ValueError):
    """Why a text is no TOML, and at which line (from 1)."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.what = what
        self.line = line


def parse(data: bytes) -> Document:
    """Read a whole file. Raises TomlError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TomlError("not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    text = text.replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _malformed(str(error), text) from None
    except RecursionError:
        raise TomlError("nested too deeply", 1) from None
    return Document(values, locate(text))


def _malformed(message: str, text: str) -> TomlError:
    what, _, where = message.partition(" (at ")
    line = re.match(r"line (\d+)", where)
    last = text.count("\n", 0, len(text.rstrip())) + 1
    return TomlError(what[:1].lower() + what[1:], int(line[1]) if line else last)


# --- where keys stand ---------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str | None
    text: str
    line: int


_TOKENS = re.compile(
    r"""
      (?P<space> [ \t]+ | \#[^\n]* )
    | (?P<end>   \n )
    | (?P<text>  "{3} (?: [^\\] | \\. )*? "{3,5}(?!") | '{3} .*? '{3,5}(?!')   # may end in quotes of its own
               | "  (?: [^"\\\n] | \\. )* "         | '  [^'\n]* ' )
    | (?P<mark>  [\[\]{}=,.] )
    | (?P<bare>  [^\s\#"'\[\]{}=,.]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKENS.finditer(text):
        if match.lastgroup != "space":
            yield _Token(match.lastgroup, match[0], line)
        line += match[0].count("\n")


def _statements(text: str) -> Iterator[list[_Token]]:
    """The tokens of one header or pair after the other."""
    statement: list[_Token] = []
    depth = 0
    for token in _tokens(text):
        if token.kind == "mark":
            depth += (token.text in "[{") - (token.text in "]}")
        if token.kind != "end":
            statement.append(token)
        elif not depth and statement:
            yield statement
            statement = []
    if statement:
        yield statement


def locate(text: str) -> dict[Path, int]:
    """The line of each key and table in ``text``, which is well-formed."""
    lines: dict[Path, int] = {}
    tables: dict[Path, int] = {}  # how many of each [[name]] there are so far
    here: Path = ()
    for statement in _statements(text):
        if statement[0].text != "[":
            _pair(statement, here, lines)
            continue
        here = ()
        keys = [_key(token) for token in statement if token.kind != "mark"]
        for number, key in enumerate(keys, 1):
            here += (key,)
            lines.setdefault(here, statement[0].line)
            if statement[1].text == "[" and number == len(keys):
                tables[here] = tables.get(here, 0) + 1
            if here in tables:
                here += (tables[here] - 1,)
                lines.setdefault(here, statement[0].line)
    return lines


def _pair(tokens: Sequence[_Token], table: Path, lines: dict[Path, int]) -> None:
    """``key = value``, and the pairs inside a value that is a table."""
    equals = next(i for i, token in enumerate(tokens) if token.text == "=" and token.kind == "mark")
    for token in tokens[:equals]:
        if token.kind != "mark":
            table += (_key(token),)
            lines.setdefault(table, token.line)
    value = tokens[equals + 1 :]
    if value[0].text != "{":
        return
    start, depth = 1, 0
    for at, token in enumerate(value):
        if token.kind == "mark":
            depth += (token.text in "[{") - (token.text in "]}")
        if (token.text == "," and depth == 1) or depth == 0:
            if at > start:
                _pair(value[start:at], table, lines)
            start = at + 1


def _key(token: _Token) -> str:
    if token.kind == "text":
        return next(iter(tomllib.loads(f"{token.text} = 0")))
    return token.text
