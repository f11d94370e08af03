"""Variables from files: ``.env`` as python-dotenv reads it, and JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from tunnelkit.config.files import expanded
from tunnelkit.config.names import MAX_SIZE, check_values
from tunnelkit.errors import InvalidError, NotFoundError, TunnelkitError

__all__ = ["find_dotenv", "read_dotenv", "read_json"]

MAX_FILE = 2 * MAX_SIZE
"""Bytes of a file: what a secret may hold, with room for names, quotes and comments."""


def find_dotenv(filename: str = ".env", start: Path | None = None) -> Path:
    """The file in ``start`` (the working directory) or the nearest directory above. Raises NotFoundError."""
    directory = (start or Path()).absolute()
    for candidate in (directory, *directory.parents):
        if (path := candidate / filename).is_file():
            return path
    what = f"There is no file {filename} in {directory} or above"
    raise NotFoundError(what, hint="Name the file, or make it")


def read_dotenv(path: str | Path, *, interpolate: bool = True) -> dict[str, str | None]:
    """What a ``.env`` file sets; None for a name without ``=``. ``-`` is standard input.

    ``interpolate``: ``${NAME}`` and ``${NAME:-default}`` stand for earlier variables of the file and those
    of this process. Raises NotFoundError, and InvalidError with the line where it cannot be read.
    """
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    source, text = _read(path)
    # python-dotenv would skip a line that it cannot read, and leave a secret without some of its variables.
    for binding in parse_stream(io.StringIO(text)):
        blank = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string.count("\n", 0, blank)
        if binding.error:
            hint = "A line is NAME=value; a value of several lines needs quotes around it"
            raise InvalidError(f"{source}, line {line}: this sets no variable", hint=hint)
        if binding.key is not None:
            _check(binding.key, binding.value, f"{source}, line {line}")
    return dict(dotenv_values(stream=io.StringIO(text), interpolate=interpolate))


def read_json(path: str | Path) -> dict[str, str | None]:
    """The variables of a JSON file: one object, whose values are strings or null. ``-`` is standard input.

    Raises NotFoundError, and InvalidError with line and column where it is malformed.
    """
    source, text = _read(path)
    wrong = ""
    try:
        value = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:  # which holds the text: nothing of it gets into ours
        wrong = f"{source}, line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        wrong = f"{source} is nested too deeply"
    if wrong:
        raise InvalidError(wrong, hint=_JSON_HINT)
    if not isinstance(value, _Object):
        raise InvalidError(f"{source} is not a JSON object", hint=_JSON_HINT)
    variables: dict[str, str | None] = {}
    for key, it in value:
        _check(key, it, source)
        if key in variables:
            raise InvalidError(f"{source}: {key} is there twice", hint="Keep one of the two")
        variables[key] = it
    return variables


_JSON_HINT = 'The file is an object of strings, such as {"NAME": "value"}'


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a name that is there twice does not go unseen."""


def _check(key: str, value: object, where: str) -> None:
    try:
        check_values({key: value})
    except TunnelkitError as error:
        raise type(error)(f"{where}: {error.what}", hint=error.hint) from None


def _read(path: str | Path) -> tuple[str, str]:
    """What to call the file, and its text with ``\\n`` at the ends of lines."""
    source = "Standard input" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1) if sys.stdin is not None else b""
        else:
            with expanded(path).open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {source}", hint="Compare its name and the directory") from None
    except OSError as error:
        raise InvalidError(f"{source} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise InvalidError(f"{source} is longer than {MAX_FILE:,} bytes", hint="Is it the right file?")
    text = data.decode("utf-8-sig", errors="surrogateescape")  # a strict error would hold the file
    if any("\udc80" <= character <= "\udcff" for character in text):
        raise InvalidError(f"{source} is no text in UTF-8", hint="Is it the right file?")
    return source, text.replace("\r\n", "\n").replace("\r", "\n")
