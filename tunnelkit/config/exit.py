"""The settings of ``tunnelkit exit``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tunnelkit.config import readers

__all__ = ["ExitSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExitSettings:
    """What `tunnelkit exit` offers. Times are in seconds."""

    name: Annotated[str, readers.name] = ""
    """The exit's name at the relay. Left out: the relay chooses one."""

    zone: Annotated[str, readers.name] = ""
    """The zone it is in, by which it may be asked for, too."""

    source_ip: Annotated[tuple[str, ...], readers.texts] = ()
    """The addresses to leave from. Left out: the system chooses."""

    rules: Annotated[tuple[str, ...], readers.rules] = ()
    """Where others may go: `allow DESTINATION` and `deny DESTINATION`, the first match decides."""

    grace: Annotated[float, readers.seconds] = 30.0
    """How long running connections may go on once the exit is told to stop."""
