"""The parameters of a Python function as options of a command."""

from __future__ import annotations

import datetime
import enum
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from tunnelkit.errors import ScriptError

__all__ = ["options_of"]

SIMPLE: dict[Any, click.ParamType[Any] | type] = {
    str: str,
    int: int,
    float: float,
    Path: click.Path(path_type=Path),
    datetime.datetime: click.DateTime(),
    inspect.Parameter.empty: str,
    Any: str,
}


def options_of(call: Callable[..., Any], path: str) -> list[click.Parameter]:
    """An option for each parameter of ``call``, which is in the script ``path``.

    A parameter without a default has to be given. ``bool`` is a pair of switches, ``list[T]`` an
    option that is given several times. Raises ScriptError for what cannot be written as an option.
    """
    try:
        signature = inspect.signature(call, eval_str=True)
    except (NameError, TypeError, ValueError) as error:
        raise ScriptError(f"{path}: the entry point's annotations cannot be read: {error}") from error
    return [_option(parameter, path) for parameter in signature.parameters.values()]


def _option(parameter: inspect.Parameter, path: str) -> click.Option:
    name, required = parameter.name, parameter.default is parameter.empty
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ScriptError(f"{path}: the entry point's parameter {name} cannot be an option")
    kind, multiple = _kind(parameter.annotation)
    declared = "--" + name.replace("_", "-")
    more: dict[str, Any] = {"required": required}
    if not required:
        more |= {"default": parameter.default, "show_default": parameter.default is not None}
    if kind is bool:
        return click.Option([f"{declared}/--no-{declared[2:]}", name], **more)
    converted = _converter(kind)
    if converted is None:
        hint = "Use str, int, float, bool, Path, datetime, Literal, an Enum, or a list of one of them"
        raise ScriptError(f"{path}: the parameter {name} cannot be an option", hint=hint)
    callback = _member(kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else None
    if callback is not None and not required:
        more["default"] = getattr(parameter.default, "name", parameter.default)
    if multiple:
        callback = callback or (lambda _ctx, _param, value: list(value))
    return click.Option([declared, name], type=converted, multiple=multiple, callback=callback, **more)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there are several."""
    if get_origin(annotation) in (Union, types.UnionType):
        given = [one for one in get_args(annotation) if one is not type(None)]
        if len(given) == 1:
            return _kind(given[0])
    if get_origin(annotation) in (list, tuple, set) and get_args(annotation):
        return get_args(annotation)[0], True
    if annotation is list:
        return str, True
    return annotation, False


def _converter(kind: Any) -> click.ParamType[Any] | type | None:
    if get_origin(kind) is Literal:
        return click.Choice([str(one) for one in get_args(kind)])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return click.Choice([member.name for member in kind])
    try:
        return SIMPLE.get(kind)
    except TypeError:  # not hashable
        return None


def _member(kind: type[enum.Enum]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def convert(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [kind[one] for one in value]
        return value if value is None else kind[value]

    return convert
