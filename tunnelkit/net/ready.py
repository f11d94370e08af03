"""Waiting until a raw non-blocking socket can be read or written, on asyncio and uvloop alike."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Descriptor", "readable", "writable"]


class Descriptor(Protocol):
    """Anything with a file descriptor that the loop can watch."""

    def fileno(self) -> int:
        """The descriptor's number; -1 once closed."""
        ...


async def readable(source: Descriptor) -> None:
    """Return once ``source`` has bytes, its end or an error to read."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = source.fileno()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def writable(sink: Descriptor) -> None:
    """Return once ``sink`` takes bytes, or its connect has come to an end either way."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = sink.fileno()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    # Readiness is level-triggered: it may be reported once more before the waiting task runs.
    if not ready.done():
        ready.set_result(None)
