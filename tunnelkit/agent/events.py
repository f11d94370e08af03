"""What an agent tells whoever runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Event", "Listener", "guarded", "ignore"]

log = logging.getLogger("tunnelkit")

Kind = Literal[
    "connected",
    "disconnected",
    "retrying",
    "tunnel_up",
    "tunnel_lost",
    "service_error",
    "notice",
    "warning",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    ``connected``, ``disconnected``, ``retrying`` (in ``delay`` seconds) are about the relay;
    ``tunnel_up`` and ``tunnel_lost`` about a tunnel; ``service_error`` says why a visitor did not
    reach the service; ``notice`` is the relay's advice; ``warning`` does not stop the tunnel.
    ``code`` is that of ``docs/errors.md``, empty where nothing is wrong.
    """

    kind: Kind
    what: str
    tunnel: int = 0
    code: str = ""
    delay: float = 0.0


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listens to nothing."""


def guarded(listener: Listener) -> Listener:
    """``listener``, whose failures are logged: they are not to be the connection's."""

    def tell(event: Event) -> None:
        try:
            listener(event)
        except Exception:
            log.exception("the listener failed on %s", event.kind)

    return tell
