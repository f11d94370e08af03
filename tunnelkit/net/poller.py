"""Readiness of the byte path's sockets, past the event loop's own bookkeeping.

A loop spends more on ``add_reader`` than a short connection on its bytes: uvloop makes a libuv handle
and four system calls, asyncio's selector a chain of Python objects. Under Linux the connections of a
pump share one epoll instance instead, which the loop sees as a single descriptor (epoll(7) may be
nested): one system call to add a socket, one to remove it, and one that reports many at a time. Both
loops then are equally fast here. Elsewhere the loop itself is asked.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol

__all__ = ["Poller", "make_poller"]

BATCH = 256
"""Events handled before the loop's other callbacks get their turn."""

Callback = Callable[[], object]


class Poller(Protocol):
    """Calls back when a descriptor can be read or written; level-triggered. Removing twice is fine."""

    def add_reader(self, fd: int, callback: Callback, /) -> object: ...
    def remove_reader(self, fd: int, /) -> object: ...
    def add_writer(self, fd: int, callback: Callback, /) -> object: ...
    def remove_writer(self, fd: int, /) -> object: ...
    def close(self) -> None: ...


def make_poller(loop: asyncio.AbstractEventLoop) -> Poller:
    """The fastest that the platform has."""
    return EpollPoller(loop) if hasattr(select, "epoll") else LoopPoller(loop)


class LoopPoller:
    """The event loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.add_reader = loop.add_reader
        self.remove_reader = loop.remove_reader
        self.add_writer = loop.add_writer
        self.remove_writer = loop.remove_writer

    def close(self) -> None:
        """Nothing is held."""


if hasattr(select, "epoll"):
    _IN, _OUT = select.EPOLLIN, select.EPOLLOUT
    _READ = select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP
    _WRITE = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP

    class EpollPoller:
        """One epoll instance inside the loop's."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self._epoll = select.epoll()
            self._readers: dict[int, Callback] = {}
            self._writers: dict[int, Callback] = {}
            loop.add_reader(self._epoll.fileno(), self._dispatch)

        def add_reader(self, fd: int, callback: Callback) -> None:
            if fd not in self._readers:
                if fd in self._writers:
                    self._epoll.modify(fd, _IN | _OUT)
                else:
                    self._epoll.register(fd, _IN)
            self._readers[fd] = callback

        def remove_reader(self, fd: int) -> None:
            if self._readers.pop(fd, None) is not None:
                if fd in self._writers:
                    self._epoll.modify(fd, _OUT)
                else:
                    self._epoll.unregister(fd)

        def add_writer(self, fd: int, callback: Callback) -> None:
            if fd not in self._writers:
                if fd in self._readers:
                    self._epoll.modify(fd, _IN | _OUT)
                else:
                    self._epoll.register(fd, _OUT)
            self._writers[fd] = callback

        def remove_writer(self, fd: int) -> None:
            if self._writers.pop(fd, None) is not None:
                if fd in self._readers:
                    self._epoll.modify(fd, _IN)
                else:
                    self._epoll.unregister(fd)

        def _dispatch(self) -> None:
            readers, writers = self._readers, self._writers
            # A callback may close a later descriptor of the batch, and open another by that number.
            # That one's callback then finds nothing to read, which it has to bear anyway.
            for fd, event in self._epoll.poll(0, BATCH):
                try:
                    if event & _READ and (callback := readers.get(fd)) is not None:
                        callback()
                    if event & _WRITE and (callback := writers.get(fd)) is not None:
                        callback()
                except Exception as error:  # noqa: BLE001 - as the loop does it: one callback's own failure
                    self._loop.call_exception_handler(
                        {"message": f"a callback of descriptor {fd} failed", "exception": error}
                    )

        def close(self) -> None:
            """The connections have been removed before."""
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
