"""What the calls of a running script are about: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnelkit.cli.output import Output, is_terminal, printable
from tunnelkit.functions.job import Job, State
from tunnelkit.functions.spec import Spec

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["Progress"]

REFRESH = 8
"""Pictures a second."""


class Progress:
    """Shows calls and their output, from whatever thread they are told in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[int, State] = {}
        self._counts: dict[tuple[str, str, str], Counter[State]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(
                console=console,
                get_renderable=self.table,
                refresh_per_second=REFRESH,
                redirect_stdout=True,
                redirect_stderr=True,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def changed(self, job: Job) -> None:
        """``job`` is new, or in another state."""
        with self._lock:
            counts = self._counts.setdefault((job.spec.name, job.zone, job.egress), Counter())
            if (before := self._states.pop(job.number, None)) is not None:
                counts[before] -= 1
            counts[job.state] += 1
            if not job.done:
                self._states[job.number] = job.state

    def line(self, spec: Spec, stream: str, text: str) -> None:
        """A line that a function has printed."""
        shown = printable(f"{spec.name} | {text}".replace("\t", "    "))
        if self._live is not None:
            self._live.console.print(shown, markup=False, highlight=False, soft_wrap=True)
        else:
            Output(getattr(sys, stream)).line(shown)

    def table(self) -> Table:
        """The calls by function, zone and the way their traffic takes."""
        from rich.table import Table

        with self._lock:
            rows = [(key, Counter(counts)) for key, counts in self._counts.items()]
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(rows))
        columns = ["function", "zone", "egress", *(state.value for state in State)]
        shown = [n for n, _ in enumerate(columns) if n not in (1, 2) or any(key[n] for key, _ in rows)]
        for n in shown:
            table.add_column(columns[n], justify="right" if n > 2 else "left", style="" if n else "bold")
        for key, counts in rows:
            cells = [*key, *(str(counts[state] or "·") for state in State)]
            table.add_row(*(cells[n] for n in shown))
        return table
