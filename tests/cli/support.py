"""The command line in processes of its own, with and without a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support import Child, start_process

COMMAND = [sys.executable, "-m", "tunnelkit"]
URL = r"^(https?://\S+|tcp://\S+)$"
PATIENCE = 20.0


def host_and_port(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].rpartition(":")
    return host, int(port)


def visit(url: str) -> socket.socket:
    """A visitor's connection to a tunnel."""
    return socket.create_connection(host_and_port(url), PATIENCE)


def visit_in_vain(url: str) -> None:
    """A visitor who is reset: while it connects, or when it waits for an answer."""
    with pytest.raises(ConnectionResetError):
        with visit(url) as visitor:
            visitor.recv(1)


class Tunnelkit:
    """Runs ``tunnelkit`` in an empty directory."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, *arguments: str, ready: str | None = URL, env: Mapping[str, str] | None = None) -> Child:
        """A child for ``with``; ready when it has printed its URL, unless told otherwise."""
        return start_process([*COMMAND, *arguments], ready=ready, cwd=self.home, env=env)

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.home,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def relay(self, *arguments: str) -> Child:
        """A relay with the token ``sesame``; ``ready[1]`` is its URL."""
        options = ["--listen", "127.0.0.1:0", "--token", "sesame", *arguments]
        return self.start("serve", *options, ready=r"listening on (wss?://\S+)")


CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the session's terminal, whose keys send signals and which is /dev/tty."""


class Terminal:
    """``tunnelkit`` on a terminal; ``output`` is all it has written, escape sequences included."""

    def __init__(
        self, home: Path, *arguments: str, columns: int = 80, env: Mapping[str, str] | None = None
    ) -> None:
        self._home = home
        self._arguments = arguments
        self._size = struct.pack("HHHH", 24, columns, 0, 0)
        self._env = {"TERM": "xterm-256color", "COLUMNS": "", **(env or {})}
        self.output = ""

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, self._size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLED, *COMMAND, *self._arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self._home,
            env={**os.environ, **self._env},
            start_new_session=True,
        )
        os.close(theirs)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        if error is not None:
            error.add_note(self.output)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until ``pattern`` is in the output."""
        for _ in self._pieces():
            if match := re.search(pattern, self.output, re.MULTILINE):
                return match
        raise AssertionError(f"no {pattern!r} on the terminal: {self.output!r}")

    def type(self, keys: bytes) -> None:
        """What is typed on the keyboard."""
        os.write(self._ours, keys)

    def echoes(self) -> bool:
        """Whether what is typed shows."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, read to the end, and return the exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Read to the end, and return the exit status."""
        for _ in self._pieces():
            pass
        return self.process.wait(PATIENCE)

    def _pieces(self) -> Iterator[None]:
        """Once at the beginning, and then each time something more has been written."""
        deadline = time.monotonic() + PATIENCE
        yield
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._ours], [], [], left)[0]:
                return
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:  # Linux: EIO once the last process has closed the other end
                return
            if not piece:
                return
            self.output += piece.decode(errors="replace")
            yield
