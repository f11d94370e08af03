"""The live status on a terminal: the address, which stays, and below it what changes."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.text import Text

from tunnelkit.agent import AgentTunnel, Event
from tunnelkit.cli.display import INTERVAL, Repeats, Reporter, hint_of, sentence
from tunnelkit.cli.output import Unblocking, is_terminal, printable, takes_more

__all__ = ["Live", "is_able", "size"]

RATE_WINDOW = 4
"""Ticks over which rates are taken: two seconds, neither jumpy nor late."""

KEYS = "Ctrl-C ends the tunnel"
LABEL_WIDTH = len("connections  ")
ERROR = "red"
"""The style of what is read in full, on narrow terminals over several lines."""


def is_able() -> bool:
    """Whether the terminal can move its cursor, and show what is no ASCII."""
    return not Console().is_dumb_terminal and sys.stdout.encoding.lower().startswith("utf")


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


class Live(Reporter):
    """See the module. Draws only what has changed, and only while the terminal takes it."""

    period = 0.5

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._place = ""
        self._state = "connecting"
        self._trouble = ""
        self._url = ""
        self._keys = KEYS
        self._service_error = ""
        self._service_hint = ""
        self._service_errors = 0
        self._tunnels: dict[int, AgentTunnel] = {}
        self._repeats = Repeats(INTERVAL)
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=RATE_WINDOW + 1)
        self._drawn: object = None
        self._is_gone = False
        self._console = Console(file=cast(IO[str], Unblocking(sys.stdout)), highlight=False)
        self._live = RichLive(
            console=self._console,
            get_renderable=self._block,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self, place: str) -> None:
        self._place = place
        self._draw(self._live.start)
        # A process that is stopped or killed could not bring a hidden cursor back.
        self._draw(self._console.show_cursor)
        self.tick()

    def say(self, line: str) -> None:
        if self._live.is_started and is_terminal(sys.stderr):
            self._print((line, "dim"))
        else:
            super().say(line)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        # soft_wrap: the terminal breaks long lines, and copies them unbroken.
        self._draw(partial(self._console.print, _line(*parts), soft_wrap=True))

    def _draw(self, draw: Callable[[], object]) -> bool:
        """Call ``draw`` if the terminal takes it, and is still there."""
        if self._is_gone or not takes_more(sys.stdout):
            return False
        try:
            draw()
        except BlockingIOError:  # it has stopped since; rich keeps what it was about to write
            return False
        except OSError:
            self._is_gone = True
        return not self._is_gone

    # --- what happens ---------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        match event.kind:
            case "tunnel_up":
                self._up(event)
            case "connected":
                self._state = self._trouble = ""
            case "retrying" if event.delay:
                self._state = f"trying again in {event.delay:.1f} s"
            case "disconnected" | "retrying":
                self._trouble = event.what
            case "service_error":
                if event.what == self._service_error:
                    self._service_errors += 1
                    return  # the next tick shows it
                self._service_error, self._service_errors = event.what, 1
                self._service_hint = f"{hint_of(event.code)} [{event.code}]".strip()
            case "warning" | "notice" if self._repeats.is_new(event, self._clock()):
                self._tell(event)
            case _:
                return
        self.tick()

    def _up(self, event: Event) -> None:
        tunnel = self._tunnel(event)
        if tunnel is not None:
            self._tunnels[event.tunnel] = tunnel
        if event.what != self._url:
            self._url = event.what
            target = f"  →  {tunnel.target}" if tunnel is not None else ""
            self._print((event.what, "bold green"), target)

    def _tell(self, event: Event, count: int = 1) -> None:
        is_warning = event.kind == "warning"
        line = f"{'warning: ' if is_warning else ''}{sentence(event, count)}"
        self._print((line, "yellow" if is_warning else ""))

    # --- the picture ----------------------------------------------------------------------------

    def tick(self) -> None:
        for event, count in self._repeats.due(self._clock()):
            self._tell(event, count)
        state = (self._rows(), self._console.size)
        if self._live.is_started and state != self._drawn and self._draw(self._live.refresh):
            self._drawn = state

    def _rows(self) -> list[tuple[str, str, str]]:
        """Label, value and style of each line."""
        rows = [("relay", ", ".join(filter(None, (self._place, self._state))), "")]
        if self._trouble:
            rows.append(("", self._trouble, ERROR))
        if self._tunnels:
            traffic = [tunnel.traffic for tunnel in self._tunnels.values()]
            opened = sum(one.open for one in traffic)
            total = sum(one.connections for one in traffic)
            rows.append(("connections", f"{opened:,} open, {total:,} in all", ""))
            totals = [one.totals() for one in traffic]
            rows.append(("traffic", self._flow(sum(t[0] for t in totals), sum(t[1] for t in totals)), ""))
        if self._service_error:
            times = f" ({self._service_errors:,} times)" if self._service_errors > 1 else ""
            rows.append(("last error", f"{self._service_error}{times}", ERROR))
            rows.append(("", self._service_hint, ERROR))
        rows.append(("", self._keys, "dim"))
        return rows

    def _flow(self, received: int, sent: int) -> str:
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= self.period / 2:
            self._samples.append((now, received, sent))
        then, received_then, sent_then = self._samples[0]
        seconds = max(now - then, self.period)
        rates = (max(0, received - received_then) / seconds, max(0, sent - sent_then) / seconds)
        return f"in {size(received)} ({size(rates[0])}/s), out {size(sent)} ({size(rates[1])}/s)"

    def _block(self) -> RenderableType:
        lines = []
        for label, value, style in self._rows():
            line = _line((label.ljust(LABEL_WIDTH), "dim"), (value, style))
            if style != ERROR:
                line.no_wrap, line.overflow = True, "ellipsis"
            lines.append(line)
        return Group("", *lines)

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._live.is_started:
            return
        self._live.transient = not self._url  # without an address there is nothing to look back at
        self._keys = "closed"
        self._draw(self._live.stop)


def _line(*parts: str | tuple[str, str]) -> Text:
    """One line of (text, style), whatever the relay has put into it."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((printable(text), style) for text, style in pairs))
