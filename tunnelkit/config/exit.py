"""The settings of ``tunnelkit exit``, read as :mod:`tunnelkit.config.settings` reads all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from tunnelkit.config.settings import _rules, _seconds, _text, _texts, load, option
from tunnelkit.wire.address import tunnel_name

__all__ = ["ExitSettings", "load_exit"]


def _name(value: object) -> str:
    text = _text(value)
    return tunnel_name(text) if text else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExitSettings:
    """What ``tunnelkit exit`` offers. Times are in seconds."""

    name: Annotated[str, _name] = ""
    """The exit's name at the relay. Empty: the relay chooses one."""

    zone: Annotated[str, _name] = ""
    """The zone it is in, by which it may be asked for, too."""

    source_ip: Annotated[tuple[str, ...], _texts] = ()
    """The addresses to leave from. Empty: the system chooses."""

    rules: Annotated[tuple[str, ...], _rules] = ()
    """Where others may go: ``allow DESTINATION`` and ``deny DESTINATION``, the first match decides."""

    grace: Annotated[float, _seconds] = 30.0
    """How long running connections may go on once the exit is told to stop."""


def load_exit(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    named: Callable[[str], str] = option,
) -> ExitSettings:
    """An exit's settings; see :func:`~tunnelkit.config.settings.load_agent`."""
    return load(ExitSettings, overrides or {}, environ, directory, named)
