"""The process around a command: its event loop, its signals, its log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import click

from tunnelkit.cli import heeded_signals
from tunnelkit.config.variables import log_level
from tunnelkit.net.listen import raise_descriptor_limit
from tunnelkit.net.tasks import Tasks

__all__ = ["Stop", "drain", "run"]


class Stop:
    """What SIGINT and SIGTERM ask for.

    Before :meth:`up` they end the command. After it the first one sets ``asked`` (take no more, let
    finish what runs) and the second ``insisted``.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self.number = 0
        self._is_up = False
        self._task: asyncio.Task[Any] | None = None

    def watch(self) -> None:
        """Hear signals from now on, for the current task."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt has to do
            for number in heeded_signals():
                loop.add_signal_handler(number, self._heard, number)

    def up(self) -> None:
        """What the command is for has begun."""
        if not self._is_up:
            self._is_up = True
            # What lives now lives until the end; the collector need not look at it again.
            gc.collect()
            gc.freeze()

    def _heard(self, number: int) -> None:
        self.number = number
        if not self._is_up and self._task is not None:
            self._task.cancel()
        elif not self.asked.is_set():
            self.asked.set()
        else:
            self.insisted.set()


Command = Callable[[Stop], Coroutine[Any, Any, None]]


def run(command: Command, *, log: Callable[[str], None]) -> None:
    """Run a command in an event loop of its own; returns when it has come to its proper end.

    ``log`` writes a line of the log. Raises what the command raises, and click's Exit with 128 + the
    signal's number if it was interrupted before it was up.
    """
    _configure_log(log)
    raise_descriptor_limit()
    stop = Stop()
    before = {number: signal.getsignal(number) for number in heeded_signals()}
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_watched(command, stop))
    except asyncio.CancelledError:
        raise click.exceptions.Exit(128 + (stop.number or signal.SIGINT)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _watched(command: Command, stop: Stop) -> None:
    stop.watch()
    await command(stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def drain(close: Callable[..., Coroutine[Any, Any, None]], grace: float, stop: Stop) -> None:
    """``close(grace=grace)``, cut short by the second signal."""
    tasks = Tasks("command")
    closing = tasks.spawn(close(grace=grace), "drain")
    insisted = tasks.spawn(stop.insisted.wait(), "second signal")
    await asyncio.wait([closing, insisted], return_when=asyncio.FIRST_COMPLETED)
    await tasks.close()


# --- the log ------------------------------------------------------------------------------------


class _LineHandler(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for line in self.format(record).splitlines():
                self._write(line)
        except Exception:  # noqa: BLE001 - the contract of logging.Handler.emit
            self.handleError(record)


def _configure_log(write: Callable[[str], None]) -> None:
    level = log_level(os.environ)
    log = logging.getLogger("tunnelkit")
    log.setLevel(level.upper())
    log.propagate = False
    log.handlers[:] = [_LineHandler(write)]
