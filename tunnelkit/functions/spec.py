"""What ``@app.function`` has been told: everything about a function but its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from tunnelkit.errors import InvalidError
from tunnelkit.functions.failure import serialize
from tunnelkit.functions.start import Route

__all__ = ["EnvironmentSource", "Retries", "Spec"]

DEFAULT_TIMEOUT = 300.0
"""Seconds of a call, as the API that this follows has it."""


class EnvironmentSource(Protocol):
    """A secret: where variables come from, at each call."""

    def reveal(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Retries:
    """How often a failed call is tried again, and how long is waited before."""

    max_retries: int
    initial_delay: float = 1.0
    """Seconds before the first of them."""
    backoff_coefficient: float = 2.0
    """What the wait is multiplied with each time."""
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        if type(self.max_retries) is not int or self.max_retries < 0:
            raise InvalidError(f"Not a number of retries: {self.max_retries!r}", hint="Give 0 or more")
        if self.initial_delay < 0 or self.backoff_coefficient < 1 or self.max_delay < 0:
            raise InvalidError("Retries whose delays shrink or are negative")

    def delay(self, attempt: int) -> float:
        """Seconds before retry ``attempt``, which counts from 0."""
        return float(min(self.initial_delay * self.backoff_coefficient**attempt, self.max_delay))


NO_RETRIES = Retries(0)


@dataclass(frozen=True, eq=False)
class Spec:
    """One function of one app."""

    key: str
    """Finds the function in the program, from the processes of others."""
    name: str
    call: Callable[..., Any] = field(repr=False)
    app: str = ""
    secrets: Sequence[EnvironmentSource] = ()
    proxy: Any = None
    egress: str = "auto"
    """How its traffic is pinned to the proxy's address: see :mod:`tunnelkit.functions.pin`."""
    zone: str = ""
    """The preferred zone; empty: any."""
    regions: Sequence[str] = ()
    """Regions that are preferred after it, best first."""
    timeout: float = DEFAULT_TIMEOUT
    retries: Retries = NO_RETRIES
    concurrency: int | None = None
    """Calls at once; None: as many as the engine allows in all."""

    @property
    def is_generator(self) -> bool:
        return inspect.isgeneratorfunction(self.call) or inspect.isasyncgenfunction(self.call)

    @cached_property
    def serialized(self) -> bytes:
        """The function as it was when it was first called. Raises SerializationError."""
        return serialize(self.call, f"The function {self.name}")

    def route(self) -> Route | None:
        """Where its connections go out, as its proxy says now; None where nothing is said."""
        return None if self.proxy is None else self.proxy.route()

    def environment(self) -> dict[str, str]:
        """The variables of the secrets as they are now; later secrets win."""
        variables: dict[str, str] = {}
        for secret in self.secrets:
            variables.update(secret.reveal())
        return variables
