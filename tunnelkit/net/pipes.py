"""A bounded pool of kernel pipes, through which splice(2) moves bulk without copying it here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["PIPE_SIZE", "POOL_SIZE", "Pipe", "Pipes", "available"]

PIPE_SIZE = 1024 * 1024
"""Bytes a pipe holds: what the kernel allows everybody (pipe(7), pipe-max-size), and one whole frame.
A quarter of it costs a fifth more CPU a gigabyte."""

POOL_SIZE = 16
"""Pipes at once. An unprivileged user has 64 MiB of pipe buffers in all (pipe(7),
pipe-user-pages-soft) and shrunken pipes beyond; a relay and an agent together take half of it. Streams
that find none copy."""

if sys.platform == "linux":
    from fcntl import F_SETPIPE_SZ, fcntl

    _FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE

    def splice(source: int, target: int, count: int) -> int:
        """Move up to ``count`` bytes between a pipe and a socket; 0 is the end of the source.

        Raises OSError as read(2) and write(2) would: BlockingIOError where nothing can be moved.
        """
        return os.splice(source, target, count, flags=_FLAGS)

    def _make() -> Pipe:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl(writer, F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # over the user's limit: a smaller pipe still works
        return Pipe(reader, writer)

    available = True
else:

    def splice(source: int, target: int, count: int) -> int:
        """Not on this platform; :data:`available` says so."""
        raise OSError(source, target, count, "splice(2) is a system call of Linux")

    def _make() -> Pipe:
        raise OSError("splice(2) is a system call of Linux")

    available = False


class Pipe:
    """One pipe; :attr:`held` bytes are inside."""

    __slots__ = ("held", "reader", "writer")

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self.held = 0

    def fill(self, source: int, count: int) -> int:
        """Move up to ``count`` bytes from socket ``source`` into the empty pipe; 0 is its end."""
        self.held = splice(source, self.writer, min(count, PIPE_SIZE))
        return self.held

    def drain(self, target: int) -> bool:
        """Move what is inside into socket ``target``; False if it cannot take all of it now."""
        try:
            while self.held:
                self.held -= splice(self.reader, target, self.held)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """The pool. A pipe that comes back with bytes inside is closed, never used again."""

    def __init__(self, limit: int = POOL_SIZE, make: Callable[[], Pipe] = _make) -> None:
        self._make = make
        self._free: list[Pipe] = []
        self._left = limit
        self._closed = False

    def take(self) -> Pipe | None:
        """A pipe of one's own, or None: copy instead."""
        if self._free:
            return self._free.pop()
        if self._closed or not self._left:
            return None
        try:
            pipe = self._make()
        except OSError:
            return None  # out of descriptors: copying still works
        self._left -= 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Hand a pipe back."""
        if pipe.held or self._closed:
            pipe.close()
            self._left += 1
        else:
            self._free.append(pipe)

    def trim(self) -> None:
        """Close the free ones, whose descriptors are wanted elsewhere; :meth:`take` makes new ones."""
        self._left += len(self._free)
        while self._free:
            self._free.pop().close()

    def close(self) -> None:
        """Close the free ones; those in use are closed by their users' :meth:`give`."""
        while self._free:
            self._free.pop().close()
        self._left = 0
        self._closed = True
