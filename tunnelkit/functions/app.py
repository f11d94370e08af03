"""An app: the functions and entry points of a program."""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from tunnelkit.config.placement import SchedulerPlacement
from tunnelkit.errors import InvalidError
from tunnelkit.functions.engine import known_keys, register
from tunnelkit.functions.function import Function
from tunnelkit.functions.pin.choose import egress as check_egress
from tunnelkit.functions.spec import DEFAULT_TIMEOUT, NO_RETRIES, EnvironmentSource, Retries, Spec

__all__ = ["App"]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

TUNING = frozenset({
    "buffer_containers", "cloud", "container_idle_timeout", "cpu", "enable_memory_snapshot",
    "ephemeral_disk", "experimental_options", "gpu", "image", "include_source", "keep_warm", "memory",
    "min_containers", "mounts", "nonpreemptible", "scaledown_window", "serialized",
})  # fmt: skip
"""Options of the API that this follows, which make a call faster or cheaper elsewhere, and no other here."""

REFUSED = {
    "allow_concurrent_inputs": "A process runs one call at a time; give concurrency= for more processes",
    "block_network": "Nothing here would block it",
    "concurrency_limit": "Give concurrency=",
    "is_generator": "Leave it out: it is seen from the function",
    "max_containers": "Give concurrency=",
    "network_file_systems": "Use the file system of this machine",
    "region": "Give scheduler_placement=SchedulerPlacement(region=…)",
    "restrict_modal_access": "Nothing here would restrict it",
    "schedule": "Nothing here would start it; use cron or a systemd timer with `tunnelkit run`",
    "volumes": "Use the file system of this machine",
}
"""Options of the same API where silence would change what a program means, with what to do instead."""


class App:
    """The functions of one program; ``name`` is for people, and shown with their output."""

    def __init__(self, name: str | None = None) -> None:
        if name is not None and (type(name) is not str or not name):
            raise InvalidError(f"Not a name: {name!r}", hint="Give a text, or nothing")
        self.name = name or ""
        self.functions: dict[str, Function[Any, Any]] = {}
        self.entrypoints: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        return f"<App {self.name!r} with {', '.join(self.functions) or 'no functions'}>"

    def function(  # noqa: PLR0913 - the keywords of one call, which a person reads and writes by name
        self,
        *,
        name: str | None = None,
        secrets: EnvironmentSource | Iterable[EnvironmentSource] = (),
        proxy: Any = None,
        egress: str = "auto",
        scheduler_placement: SchedulerPlacement | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int | Retries = NO_RETRIES,
        concurrency: int | None = None,
        **others: Any,
    ) -> Callable[[Callable[Parameters, Returned]], Function[Parameters, Returned]]:
        """Declare a function.

        ``secrets``: one or several, whose variables it has; later ones win; read at each call.
        ``proxy``: whose address its connections leave from; ``egress``: how that is seen to.
        ``scheduler_placement``: the zone in which it runs if there is room. ``timeout``: seconds
        after which a call is ended.
        ``retries``: how often a failed call is tried again. ``concurrency``: calls at once.

        Raises InvalidError.
        """
        _other_options(others)
        options = {
            "secrets": _secrets(secrets),
            "proxy": _proxy(proxy),
            "egress": check_egress(egress),
            **_placement(scheduler_placement),
            "timeout": _timeout(timeout),
            "retries": retries if isinstance(retries, Retries) else Retries(retries),
            "concurrency": _concurrency(concurrency),
        }

        def declare(call: Callable[Parameters, Returned]) -> Function[Parameters, Returned]:
            if not inspect.isroutine(call):
                raise InvalidError(f"Not a function: {call!r}", hint="Put @app.function() above a def")
            shown = name or call.__name__
            spec = Spec(_key(self.name, call), shown, call, self.name, **options)
            register(spec)
            function = self.functions[shown] = Function[Parameters, Returned](spec)
            return function

        return declare

    def local_entrypoint(
        self, *, name: str | None = None
    ) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
        """Declare what ``tunnelkit run script.py`` runs, in the program itself.

        Its parameters are options of the command line, by their names, annotations and defaults.
        """

        def declare(call: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
            self.entrypoints[name or call.__name__] = call
            return call

        return declare


def _key(app: str, call: Callable[..., Any]) -> str:
    """What finds the function. Made twice by the same lines, as closures are, it is two functions."""
    key = f"{app}/{call.__module__}.{call.__qualname__}"
    if "<locals>" not in key:
        return key
    return f"{key}#{sum(known.split('#')[0] == key for known in known_keys())}"


def _other_options(given: dict[str, Any]) -> None:
    for option in given:
        if option in REFUSED:
            raise InvalidError(f"There is no {option}= here", hint=REFUSED[option])
        if option not in TUNING:
            names = [*TUNING, *REFUSED, "secrets", "proxy", "scheduler_placement", "timeout", "retries"]
            near = difflib.get_close_matches(option, names, 1)
            hint = f"Did you mean {near[0]}=?" if near else "See help(App.function)"
            raise InvalidError(f"@app.function() has no option {option}=", hint=hint)
    if given:
        what = ", ".join(f"{option}=" for option in sorted(given))
        warnings.warn(f"{what} changes nothing on this machine", stacklevel=3)


def _secrets(given: Any) -> tuple[EnvironmentSource, ...]:
    if isinstance(given, str | bytes):
        raise InvalidError(f"secrets={given!r} is a text", hint=f"Give secrets=[Secret.from_name({given!r})]")
    if hasattr(given, "reveal"):
        given = (given,)
    try:
        secrets = tuple(given)
    except TypeError:
        raise InvalidError(
            f"Not a secret: {type(given).__name__}", hint="Give a Secret, or several"
        ) from None
    for secret in secrets:
        if not hasattr(secret, "reveal"):
            raise InvalidError(f"Not a secret: {type(secret).__name__}", hint="Give a Secret, or several")
    return secrets


def _proxy(given: Any) -> Any:
    if given is not None and not hasattr(given, "route"):
        raise InvalidError(f"Not a proxy: {given!r}", hint="Give proxy=Proxy.from_name(…)")
    return given


def _placement(given: SchedulerPlacement | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, SchedulerPlacement):
        hint = "Give SchedulerPlacement.zone(…), or SchedulerPlacement(region=…)"
        raise InvalidError(f"Not a placement: {type(given).__name__}", hint=hint)
    return {"zone": given.zone or "", "regions": given.region}


def _timeout(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise InvalidError(f"Not a time-out: {given!r}", hint="Give seconds, more than 0")
    return float(given)


def _concurrency(given: Any) -> int | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise InvalidError(f"Not a number of calls at once: {given!r}", hint="Give 1 or more, or nothing")
    return given
