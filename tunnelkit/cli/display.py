"""What a tunnel's terminal, script or supervisor is told: lines, JSON, or a live status."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnelkit.agent import Event
from tunnelkit.cli.output import is_terminal, stderr, stdout
from tunnelkit.errors import TunnelkitError, from_code

if TYPE_CHECKING:
    from tunnelkit.agent import Agent, AgentTunnel

__all__ = ["INTERVAL", "Json", "Lines", "Repeats", "Reporter", "hint_of", "reporter_for", "sentence"]

SERVICE_INTERVAL = 5.0
"""Seconds between two lines about the same service error: enough to see that it goes on."""

INTERVAL = 60.0
"""Seconds between two lines about anything else: a relay may stay away for a night."""


def hint_of(code: str) -> str:
    """What to do about an event with ``code``; empty where the code is not an error's."""
    error = from_code(code, "")
    return error.hint if error.code == code else ""


def sentence(event: Event, count: int = 1) -> str:
    """``event`` as one line, which has happened ``count`` times since it was last told."""
    times = f" ({count:,} times)" if count > 1 else ""
    hint = f". {hint}" if (hint := hint_of(event.code)) else ""
    code = f" [{event.code}]" if event.code else ""
    return f"{event.what}{times}{hint}{code}"


@dataclass(slots=True)
class _Count:
    told: float
    untold: int = 0


class Repeats:
    """What happens again and again is told at once, then counted. Times in seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._counts: dict[Event, _Count] = {}

    def is_new(self, event: Event, now: float) -> bool:
        """Whether to tell ``event`` now; if not, :meth:`due` gives it with others of its kind."""
        count = self._counts.get(event)
        if count is None:
            self._counts[event] = _Count(now)
            return True
        count.untold += 1
        return False

    def due(self, now: float) -> Iterator[tuple[Event, int]]:
        """Events to tell now, and how often each has happened since it was told."""
        for event, count in list(self._counts.items()):
            if now - count.told < self._interval:
                continue
            if count.untold:
                yield event, count.untold
                self._counts[event] = _Count(now)
            else:
                del self._counts[event]  # it has stopped, and would be news again


class Reporter:
    """Tells what happens. This one tells nothing.

    ``clock`` gives seconds; ``agent`` is set once there is one, before it opens its tunnel.
    """

    period = 1.0
    """Seconds between calls of :meth:`tick`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.agent: Agent | None = None
        self._clock = clock

    def start(self, place: str) -> None:
        """The command begins to connect to the relay at ``place``."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def say(self, line: str) -> None:
        """A line of the log."""
        stderr().line(line)

    def failed(self, error: TunnelkitError) -> None:
        """The command ends with ``error``, which is shown on standard error by itself."""

    def tick(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """Nothing more happens. Safe to call twice."""

    def _tunnel(self, event: Event) -> AgentTunnel | None:
        return self.agent.tunnels.get(event.tunnel) if self.agent is not None else None


LABELS = {"service_error": "service error", "retrying": "no relay", "warning": "warning", "notice": "note"}


class Lines(Reporter):
    """The public address alone on standard output, all else on standard error."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._out = stdout()
        self._err = stderr()
        self._url = ""
        self._away = False
        self._repeats = {
            kind: Repeats(SERVICE_INTERVAL if kind == "service_error" else INTERVAL) for kind in LABELS
        }

    def event(self, event: Event) -> None:
        match event.kind:
            case "tunnel_up" if not self._url:
                self._url = event.what
                self._out.line(event.what)
            case "tunnel_up" if event.what != self._url:
                self._url = event.what
                self._err.line(f"warning: the address is {event.what} now")
            case "disconnected":
                self._away = True
                self._err.line(f"disconnected: {sentence(event)}")
            case "connected" if self._away:
                self._away = False
                self._err.line(f"connected again: {sentence(event)}")
            case "retrying" if not event.code:
                pass  # says when, not why
            case kind if kind in LABELS and self._repeats[kind].is_new(event, self._clock()):
                self._err.line(f"{LABELS[kind]}: {sentence(event)}")
            case _:
                pass  # the beginning needs no words, and the end has the error's

    def tick(self) -> None:
        now = self._clock()
        for kind, repeats in self._repeats.items():
            for event, count in repeats.due(now):
                self._err.line(f"{LABELS[kind]}: {sentence(event, count)}")


class Json(Reporter):
    """One JSON object a line on standard output."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._out = stdout()
        self._service_errors = Repeats(SERVICE_INTERVAL)

    def event(self, event: Event) -> None:
        if event.kind != "service_error" or self._service_errors.is_new(event, self._clock()):
            self._write(event)

    def tick(self) -> None:
        for event, count in self._service_errors.due(self._clock()):
            self._write(event, count)

    def failed(self, error: TunnelkitError) -> None:
        facts = {"message": error.what, "code": error.code, "hint": error.hint}
        self._line({"event": "error", **facts, "exit_status": error.exit_status})

    def _write(self, event: Event, count: int = 1) -> None:
        facts: dict[str, object] = {"event": event.kind}
        if event.kind == "tunnel_up":
            facts |= {"url": event.what} | _facts(self._tunnel(event))
        else:
            facts |= {"message": event.what, "code": event.code, "hint": hint_of(event.code)}
            facts |= {"delay": round(event.delay, 3), "count": count if count > 1 else 0}
        self._line(facts)

    def _line(self, facts: dict[str, object]) -> None:
        given = {key: value for key, value in facts.items() if value != "" and value != 0}
        self._out.line(json.dumps(given))


def _facts(tunnel: AgentTunnel | None) -> dict[str, object]:
    """What a program wants to know of a tunnel."""
    if tunnel is None:
        return {}
    return {
        "kind": tunnel.kind,
        "name": tunnel.name,
        "host": tunnel.host,
        "port": tunnel.port,
        "target": str(tunnel.target),
    }


def reporter_for(*, as_json: bool) -> Reporter:
    """The way to tell things that suits standard output."""
    if as_json:
        return Json()
    if is_terminal(sys.stdout):
        from tunnelkit.cli.live import Live, is_able

        if is_able():
            return Live()
    return Lines()
