"""Child processes of tests: started, waited for until ready, and ended with all they started.

::

    with start_process([program("redis-server"), "--port", str(port)], ready=port) as redis: ...
    async with start_process([...], ready=r"listening on (\\S+)") as relay:
        address = relay.ready[1]

In a coroutine use ``async with``, ``run`` and ``expect_async``: they leave the loop running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

READY = 15.0  # seconds for a child to get ready: slow enough for two busy cores
GRACE = 5.0  # seconds between asking a child to end and ending it
POLL = 0.01  # seconds between two attempts to connect

Ready = str | int | Path | None

Argument = str | os.PathLike[str]


class ChildError(AssertionError):
    """A child ended too early, or did not say or do in time what was expected of it."""


class Child:
    """A running child process and everything it has written so far.

    ``ready`` is the match of the readiness expression, where one was given.
    """

    ready: re.Match[str]

    def __init__(
        self,
        argv: Sequence[Argument],
        *,
        ready: Ready = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = READY,
        grace: float = GRACE,
    ) -> None:
        self.argv = [os.fspath(argument) for argument in argv]
        self._await_ready = ready
        self._env = None if env is None else {**os.environ, **env}
        self._cwd = cwd
        self._timeout = timeout
        self._grace = grace
        self._written = threading.Condition()
        self._output = {"stdout": b"", "stderr": b""}
        self._readers: list[threading.Thread] = []

    # -- beginning and end

    def __enter__(self) -> Self:
        self._popen = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        for name in self._output:
            stream = getattr(self._popen, name)
            reader = threading.Thread(target=self._read, args=(name, stream), daemon=True)
            reader.start()
            self._readers.append(reader)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(str(self))

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, traceback)

    def stop(self) -> int:
        """Ask it to end, end it after ``grace`` seconds, and end what it left behind."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(self._grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: zombies are EPERM
            os.killpg(self.pid, signal.SIGKILL)
        status = self._popen.wait()
        for reader in self._readers:
            reader.join(self._grace)
        return status

    def kill(self) -> None:
        """End it at once, as a crash would, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)  # nothing happens where it has ended

    # -- what is known about it

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    def __str__(self) -> str:
        status = "running" if self.running else f"exit status {self._popen.returncode}"
        return f"{' '.join(self.argv)} ({status})\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def _text(self, name: str) -> str:
        with self._written:  # a condition's lock is reentrant
            return self._output[name].decode(errors="replace")

    # -- waiting

    def wait(self, timeout: float = READY) -> int:
        """Its exit status; a signal's number is negative. ``ChildError`` after ``timeout``."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ChildError(f"still running after {timeout} s: {self}") from None
        for reader in self._readers:
            reader.join(timeout)
        return status

    async def wait_async(self, timeout: float = READY) -> int:
        return await asyncio.to_thread(self.wait, timeout)

    def expect(self, pattern: str, timeout: float = READY) -> re.Match[str]:
        """Wait until ``pattern`` is somewhere in its standard output or its standard error."""
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self._written:
            while True:
                ended = not any(reader.is_alive() for reader in self._readers)
                for name in self._output:
                    if match := expression.search(self._text(name)):
                        return match
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    break
                self._written.wait(min(left, 1.0))
        if ended:  # its outputs are closed, so it is about to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(self._grace)
        raise ChildError(f"no {pattern!r} {'until its end' if ended else 'in time'}: {self}")

    async def expect_async(self, pattern: str, timeout: float = READY) -> re.Match[str]:
        return await asyncio.to_thread(self.expect, pattern, timeout)

    def _wait_until_ready(self) -> None:
        match self._await_ready:
            case None:
                return
            case str(pattern):
                self.ready = self.expect(pattern, self._timeout)
            case int(port):
                self._wait_until_accepting(socket.AF_INET, ("127.0.0.1", port))
            case Path() as path:
                self._wait_until_accepting(socket.AF_UNIX, str(path))

    def _wait_until_accepting(self, family: int, address: tuple[str, int] | str) -> None:
        deadline = time.monotonic() + self._timeout
        while self.running and time.monotonic() < deadline:
            with socket.socket(family) as probe, contextlib.suppress(OSError):
                probe.connect(address)
                return
            time.sleep(POLL)
        raise ChildError(f"does not accept connections at {address}: {self}")

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            while piece := os.read(stream.fileno(), 65_536):
                with self._written:
                    self._output[name] += piece
                    self._written.notify_all()
        with self._written:
            self._written.notify_all()


def start_process(
    argv: Sequence[Argument],
    *,
    ready: Ready = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = READY,
    grace: float = GRACE,
) -> Child:
    """A child for ``with`` or ``async with``, in a process group of its own.

    ``ready`` is a regular expression to wait for on either output, a port of 127.0.0.1 or the path
    of a Unix socket that has to accept, or None. ``env`` is added to this process's environment.
    ``timeout`` and ``grace`` are seconds.
    """
    return Child(argv, ready=ready, env=env, cwd=cwd, timeout=timeout, grace=grace)


async def run(
    *argv: Argument,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = READY,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end beside the loop; its exit status is the caller's to check."""
    return await asyncio.to_thread(
        subprocess.run,
        argv,
        input=stdin,
        env=None if env is None else {**os.environ, **env},
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        check=False,
    )
