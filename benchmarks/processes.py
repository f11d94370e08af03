"""Child processes: started, seen to be ready, and ended with everything they started.

A :class:`Launcher` is the set of processes that play one part (service, peer or load), so that
CPU and memory can be attributed to it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from benchmarks import proc
from benchmarks.model import LOOPBACK, Address, BenchmarkError

ROOT = Path(__file__).parent.parent

READY = 15.0  # seconds for a process to get ready: an SSH handshake on two busy cores takes one
GRACE = 3.0  # seconds between asking a process to end and ending it: a profiler writes its report
POLL = 0.005  # seconds between two looks at something that cannot be waited for
SHOWN = 2000  # characters of an output in an error
OUTPUT_KEPT = 1 << 20  # bytes of each output; iperf3's report of eight streams has 100 kB

# Below the ports that Linux hands out by itself: those are for the load's own connections.
LISTENING_PORTS = range(20_000, 32_000)

# Servers live outside an ordinary user's path.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


# The harness is on the same machine as what it asks: no proxy of the environment's.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def find(program: str) -> str | None:
    """The full path of a program, or None where it is not installed."""
    return shutil.which(program, path=SEARCH_PATH)


def free_address() -> Address:
    """An address of this machine that nothing listens on."""
    for port in random.sample(LISTENING_PORTS, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return Address(LOOPBACK, port)
    raise BenchmarkError(f"no free port among a hundred of {LISTENING_PORTS}")


class Process:
    """A running child and what it has written so far."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: dict[str, str] | None = None) -> None:
        self.argv = [find(argv[0]) or argv[0], *argv[1:]]
        try:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C is for the harness, which ends its children
            )
        except OSError as error:
            raise BenchmarkError(f"{argv[0]} could not be started: {error}") from error
        self.pid = self._popen.pid
        self._written = threading.Condition()
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = [
            threading.Thread(target=self._read, args=(name, getattr(self._popen, name)), daemon=True)
            for name in self._output
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def describe(self) -> str:
        """Its command, its status and the end of what it wrote."""
        status = "still running" if self.running else f"exit status {self._popen.returncode}"
        written = (self._text("stdout") + self._text("stderr")).strip()
        return f"$ {' '.join(self.argv)}  ({status})\n{written[-SHOWN:]}".strip()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise BenchmarkError(f"ended early:\n{self.describe()}") from error

    def expect(self, pattern: str, timeout: float = READY) -> re.Match[str]:
        """Wait until one of its outputs matches ``pattern``."""
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
                self._written.wait(min(left, 0.5))
        if ended:  # its outputs have; its status follows
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(GRACE)
        state = "it ended first" if ended else f"not in {timeout:.0f} s"
        raise BenchmarkError(f"waited for {pattern!r}, {state}:\n{self.describe()}")

    def expect_listening(self, address: Address, timeout: float = READY) -> None:
        """Wait until ``address`` accepts, for programs that do not say when they are ready."""
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(address, timeout):
                return
            time.sleep(POLL)
        raise BenchmarkError(f"nothing accepts at {address}:\n{self.describe()}")

    def expect_answer(
        self, address: Address, path: str = "/", *, host: str = "", containing: str = ""
    ) -> None:
        """Wait until a GET of ``path`` is answered with 200 and a body that has ``containing``."""
        request = urllib.request.Request(f"http://{address}{path}", headers={"Host": host or str(address)})
        deadline = time.monotonic() + READY
        while self.running and time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                _DIRECTLY.open(request, timeout=READY) as answer,
            ):
                if containing in answer.read(OUTPUT_KEPT).decode(errors="replace"):
                    return
            time.sleep(POLL)
        raise BenchmarkError(f"no good answer of http://{address}{path}:\n{self.describe()}")

    def kill(self) -> None:
        """End it and all its descendants at once, as a crash would."""
        _signal(proc.families([self.pid]) if self.running else [], signal.SIGKILL)
        self._popen.wait()

    def interrupt(self, timeout: float = READY) -> None:
        """Send it what Ctrl-C would, and wait until it has ended."""
        _signal([self.pid], signal.SIGINT)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"does not end:\n{self.describe()}") from None
        for reader in self._readers:
            reader.join(GRACE)

    def result(self, timeout: float) -> str:
        """Its whole standard output, once it has ended by itself with status 0."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"not done in {timeout:.0f} s:\n{self.describe()}") from None
        for reader in self._readers:
            reader.join(GRACE)
        if status != 0:
            raise BenchmarkError(self.describe())
        return self.stdout

    def reap(self) -> None:
        """Collect it once it has been killed, and close what is open to it."""
        self._popen.wait()
        for reader in self._readers:
            reader.join(GRACE)
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def _text(self, name: str) -> str:
        with self._written:  # a condition's lock is reentrant
            return self._output[name].decode(errors="replace")

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            while piece := os.read(stream.fileno(), 65_536):
                with self._written:
                    room = OUTPUT_KEPT - len(self._output[name])
                    self._output[name] += piece[:room]
                    self._written.notify_all()
        with self._written:
            self._written.notify_all()


class Server:
    """A process that can be killed, and started again as it was."""

    def __init__(self, start: Callable[[], Process]) -> None:
        self._start = start
        self._process = start()

    def kill(self) -> None:
        self._process.kill()

    def start_again(self) -> None:
        """Returns once it is ready."""
        self._process = self._start()


class Launcher:
    """The processes of one part, and a directory for their files; all gone after the ``with``."""

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self.server: Server | None = None
        """What ``serve`` started."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True)
        self.directory = Path(self._directory.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._directory.cleanup()

    def run(self, *argv: str, env: dict[str, str] | None = None) -> Process:
        """Start a process; its working directory is the repository."""
        process = Process(argv, ROOT, env)
        self._processes.append(process)
        return process

    def serve(self, start: Callable[[], Process]) -> None:
        """Start the part that a crash is played with; ``start`` returns once it is ready."""
        self.server = Server(start)

    def write(self, name: str, text: str) -> str:
        """A file for these processes alone; returns its path."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    def families(self) -> list[list[int]]:
        """The running processes that were started here, in that order, each with its descendants."""
        return [proc.families([process.pid]) for process in self._processes if process.running]

    def pids(self) -> list[int]:
        """Every running process that was started here, with all their descendants."""
        roots = [process.pid for process in self._processes if process.running]
        return proc.families(roots, sessions=[process.pid for process in self._processes])

    def describe(self) -> list[str]:
        """What each process has to say for itself."""
        return [process.describe() for process in self._processes]

    def stop(self) -> None:
        """End everything: asked first, killed after ``GRACE``. Ends only what was started here."""
        family = [(pid, proc.start_time(pid)) for pid in self.pids()]
        _signal([pid for pid, _ in family], signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while (alive := _alive(family)) and time.monotonic() < deadline:
            time.sleep(POLL)
        _signal(alive, signal.SIGKILL)
        for process in self._processes:
            process.reap()
        self._processes.clear()


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _alive(family: list[tuple[int, int | None]]) -> list[int]:
    """Those that still run; the start time tells a process from a later one with its number."""
    return [pid for pid, started in family if started and proc.start_time(pid) == started]
