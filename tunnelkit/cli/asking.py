"""Questions to the person at the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from tunnelkit.cli import heeded_signals
from tunnelkit.cli.output import is_terminal
from tunnelkit.errors import UsageError

__all__ = ["ask_hidden", "ask_passphrase", "can_ask", "confirm", "piped"]


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return is_terminal(sys.stdin)


def piped(limit: int) -> bytes:
    """What standard input has, up to ``limit`` bytes; nothing where it was closed."""
    return sys.stdin.buffer.read(limit) if sys.stdin is not None else b""


def ask_hidden(question: str, *, twice: bool = False) -> str:
    """What a person types, unseen; ``twice``: to be sure of it."""
    with _echo_comes_back():
        answer: str = click.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
    return answer


def ask_passphrase(question: str, new: bool) -> str:
    """:func:`ask_hidden` in the words of :data:`tunnelkit.config.store.Prompt`."""
    return ask_hidden(question, twice=new)


def confirm(question: str, *, yes: bool) -> None:
    """Return if ``yes``, or if a person says so. Raises UsageError where nobody can be asked."""
    if yes:
        return
    if not can_ask():
        raise UsageError(f"{question} Nobody is here to answer", hint="Give --yes")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)


@contextmanager
def _echo_comes_back() -> Iterator[None]:
    """While a person types unseen no signal ends the process at once: the terminal has to be put back."""
    before = {number: signal.signal(number, _interrupt) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
