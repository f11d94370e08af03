"""The ``tunnelkit`` command: one file a group of commands.

Modules that define commands import click and little else, so that ``--help`` is quick; what a
command needs to run is imported when it runs.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    _open_standard_streams()
    # From here on, also while modules load, an interrupted command says nothing and has a status.
    signals = (signal.SIGINT, signal.SIGTERM)
    ignored = [number for number in signals if signal.getsignal(number) is signal.SIG_IGN]
    for number in signals:
        signal.signal(number, _exit_at_once)
    from tunnelkit.cli.root import cli

    cli(prog_name="tunnelkit", obj=ignored)  # for commands that another program takes the place of
    raise SystemExit(0)


def _open_standard_streams() -> None:
    """Fill the places of standard streams that were closed, or a socket would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: open(2)


def _exit_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
