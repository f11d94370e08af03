"""The ``tunnelkit`` command: one file a group of commands.

Modules that define commands import click and little else, so that ``--help`` is quick; what a
command needs to run is imported when it runs.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

__all__ = ["heeded_signals", "main"]


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    _open_standard_streams()
    # From here on, also while modules load, an interrupted command says nothing and has a status.
    for number in heeded_signals():
        signal.signal(number, _exit_at_once)
    from tunnelkit.cli.root import cli

    cli(prog_name="tunnelkit")
    raise SystemExit(0)


def heeded_signals() -> list[signal.Signals]:
    """SIGINT and SIGTERM, where this process was not started to ignore them, as a shell's background job is.

    What is ignored stays so, also for the command that ``tunnelkit secret run`` becomes.
    """
    both = (signal.SIGINT, signal.SIGTERM)
    return [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]


def _open_standard_streams() -> None:
    """Fill the places of standard streams that were closed, or a socket would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: open(2)


def _exit_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
