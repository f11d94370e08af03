"""Standard output and standard error as lines, whatever becomes of those who read them."""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import TextIO

__all__ = ["Output", "Unblocking", "discard", "is_terminal", "printable", "stderr", "stdout", "takes_more"]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads ``stream``; None is one that was closed."""
    return stream is not None and stream.isatty()


def takes_more(stream: TextIO | None) -> bool:
    """Whether ``stream`` takes a line now.

    A pipe that nobody empties, or a terminal stopped by Ctrl-S, would otherwise stop the event loop
    and every tunnel with it. Where the system cannot tell, the answer is yes.
    """
    if stream is None:
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll(2) here, or no descriptor behind it
        return True


def printable(text: str) -> str:
    """``text`` without line ends and escape sequences, for some of it comes from the relay."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Unblocking:
    """``stream`` for a library that writes to it: BlockingIOError where it would have to wait."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        self._check()
        return self._stream.write(text)

    def flush(self) -> None:
        self._check()
        self._stream.flush()

    def _check(self) -> None:
        if not takes_more(self._stream):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class Output:
    """One standard stream.

    A line that its reader does not take is dropped, and so is everything once the reader has gone: a
    tunnel outlives the ``head -1`` that wanted its address.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        """Write ``text`` and a line end, and flush."""
        text = printable(text)
        stream = self._stream
        if stream is None or not takes_more(stream):
            return
        try:
            stream.write(f"{text}\n")
            stream.flush()
        except UnicodeEncodeError:
            self.line(text.encode("ascii", "backslashreplace").decode())
        except OSError:
            self._stream = None
            discard(stream)


def discard(stream: TextIO) -> None:
    """Send what is left in the stream's buffer nowhere, or the interpreter complains at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def stdout() -> Output:
    """This process's standard output."""
    return Output(sys.stdout)


def stderr() -> Output:
    """This process's standard error."""
    return Output(sys.stderr)
