"""One process of one function, from the program's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from tunnelkit.config.handed import agent_variables
from tunnelkit.engine.launch import socket_pair
from tunnelkit.errors import RemoteError
from tunnelkit.functions.messages import Assembler, Kind, Outcome, Setup, dump, pack
from tunnelkit.functions.spec import Spec
from tunnelkit.functions.start import Direct, Launch

__all__ = ["Process", "Runner", "RunnerUser", "setup_of"]

START_TIMEOUT = 60.0
"""Seconds for a process to load its function: heavy modules take many."""

RECEIVE = 256 * 1024

END_TIME = 1.0
"""Seconds for a process to be gone once it has closed its end; then it is killed."""

LAST_LINES = 20
"""Lines of output that the error of a process that died quotes."""

MAX_LINE = 64 * 1024
"""Bytes after which a line that does not end is passed on as it is."""


def setup_of(spec: Spec, environment: Mapping[str, str]) -> Setup:
    """What a process of ``spec`` needs of this program."""
    argv = list(sys.argv[:1])
    return Setup(spec.serialized, spec.name, dict(environment), sys.path[:], argv, agent_variables())


class Process(Protocol):
    """A process of a function, here or on another machine. :class:`Runner` says what each means."""

    spec: Spec
    environment: Mapping[str, str]

    @property
    def ips(self) -> Sequence[str]: ...

    zone: str
    waiting: bool
    idle_since: float
    cut_off: bool
    dead: bool
    gone: asyncio.Future[None]

    @property
    def pid(self) -> int: ...
    @property
    def way(self) -> str: ...
    async def load(self) -> Outcome | None: ...
    async def run(self, call: int, arguments: bytes) -> Outcome: ...
    def kill(self) -> None: ...
    def send(self, kind: Kind, call: int, payload: bytes = b"") -> None: ...


class RunnerUser(Protocol):
    """Who made the runner."""

    def nested(self, runner: Process, kind: Kind, call: int, payload: bytes) -> None:
        """The function asks for something: SPAWN, FOLLOW, CANCEL, MORE or CLOSE of a nested call."""

    def item(self, runner: Process, payload: bytes) -> None:
        """The running call, a generator, has yielded."""

    def blocked(self, runner: Process, blocked: bool) -> None:
        """The running call waits for a nested one, or not any more."""

    def line(self, runner: Process, stream: str, text: str) -> None:
        """A line of output, without its end; ``stream`` is ``stdout`` or ``stderr``."""

    def died(self, runner: Process) -> None:
        """The process has ended."""


class _Output:
    """One of the process's output streams, line by line."""

    def __init__(self, runner: Runner, name: str, fd: int) -> None:
        self._runner = runner
        self._name = name
        self._fd = fd
        self._rest = b""
        self._open = True
        os.set_blocking(fd, False)
        runner.loop.add_reader(fd, self.read)

    def read(self) -> None:
        """Pass on what there is."""
        while self._open:
            try:
                data = os.read(self._fd, MAX_LINE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._pass_on(line)
            if len(self._rest) >= MAX_LINE:
                self._pass_on(self._rest)
                self._rest = b""

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._runner.last_lines.append(text)
        self._runner.user.line(self._runner, self._name, text)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._runner.loop.remove_reader(self._fd)
            if self._rest:
                self._pass_on(self._rest)


class Runner:
    """See the module. Everything happens in the event loop that is running when it is made.

    ``environment``: the variables of the function's secrets. Raises OSError if no process can be had.
    """

    def __init__(
        self,
        spec: Spec,
        environment: Mapping[str, str],
        user: RunnerUser,
        launch: Launch | None = None,
        ips: Sequence[str] = (),
    ) -> None:
        self.launch = launch or Direct()
        self.ips = ips
        """The addresses that it is pinned to."""
        self.spec = spec
        self.environment = environment
        self.user = user
        self.loop = asyncio.get_running_loop()
        self.zone = ""
        """Where it runs, if that is known."""
        self.call = 0
        """The number of the running call; 0 while there is none."""
        self.waiting = False
        """Whether the running call waits for a nested one."""
        self.idle_since = 0.0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.cut_off = False
        """Whether it was ended in the midst of a call."""
        self.dead = False
        self.gone: asyncio.Future[None] = self.loop.create_future()
        """Done when the process has ended."""
        self._result: asyncio.Future[Outcome] | None = None
        self._ready: asyncio.Future[Outcome | None] = self.loop.create_future()
        self._pinned: asyncio.Future[Outcome | None] = self.loop.create_future()
        self._assembler = Assembler()
        self._unsent: deque[memoryview] = deque()
        self._socket, theirs = socket_pair()
        self._socket.setblocking(False)
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.callback(self._socket.close)
            unless_started.callback(self.launch.close)
            self.process = self.launch.start(theirs)
            unless_started.pop_all()
        assert self.process.stdout is not None  # both are pipes
        assert self.process.stderr is not None
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            # The end of the socket would do, but for a fork of the process that keeps it open.
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.process.pid)
                self.loop.add_reader(self._pidfd, self._has_ended)
        self._outputs = [
            _Output(self, "stdout", self.process.stdout.fileno()),
            _Output(self, "stderr", self.process.stderr.fileno()),
        ]
        self.loop.add_reader(self._socket.fileno(), self._readable)

    def __repr__(self) -> str:
        return f"<Runner of {self.spec.name}, process {self.process.pid}>"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def way(self) -> str:
        """How its traffic is pinned; empty: it is not."""
        return self.launch.way

    # --- what the engine does with it -----------------------------------------------------------

    async def load(self) -> Outcome | None:
        """Have the function loaded; what it failed with, or None. If cancelled, end the process."""
        setup = self.setup()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                failure = await self._prove() if self.launch.way else None
                if failure is None:
                    self.send(Kind.SETUP, 0, dump(setup))
                    failure = await self._ready
        except TimeoutError:
            self.kill()
            error = RemoteError(f"{self.spec.name} was not loaded within {START_TIMEOUT:g} s")
            raise error from None
        except BaseException:
            self.kill()
            raise
        if failure is not None:
            self.kill()
        return failure

    def setup(self) -> Setup:
        """What the process is told first. Raises SerializationError."""
        return setup_of(self.spec, self.environment)

    async def _prove(self) -> Outcome | None:
        """Nothing of the function is in the process until it is known where that leaves from."""
        try:
            if (failure := await self._pinned) is None:
                self.launch.check()
            return failure
        finally:
            self.launch.close()

    async def run(self, call: int, arguments: bytes) -> Outcome:
        """Run one call. If cancelled, end the process. Raises RemoteError if it dies."""
        if self.dead:
            raise self.death()
        self.call = call
        self._result = self.loop.create_future()
        self.last_lines.clear()
        self.send(Kind.CALL, call, arguments)
        try:
            return await self._result
        except BaseException:
            self.cut_off = True
            self.kill()
            raise
        finally:
            self.call = 0
            self._result = None

    def kill(self) -> None:
        """End the process and all that it has started."""
        if not self.dead:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def send(self, kind: Kind, call: int, payload: bytes = b"") -> None:
        """Send a message, or keep what the process does not take yet."""
        if self.dead:
            return
        self._unsent.append(memoryview(pack(kind, call, payload)))
        if len(self._unsent) == 1:
            self._send()
            if self._unsent:
                self.loop.add_writer(self._socket.fileno(), self._send)

    def _send(self) -> None:
        try:
            while self._unsent:
                data = self._unsent.popleft()
                if (sent := self._send_some(data)) < len(data):
                    self._unsent.appendleft(data[sent:])
                    return
        except OSError:
            self._unsent.clear()  # it has died, which is noticed by itself
        self.loop.remove_writer(self._socket.fileno())

    def _send_some(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    # --- what comes from it ---------------------------------------------------------------------

    def _readable(self) -> None:
        if self._read():
            return
        if self._pidfd < 0:
            self._has_ended()
            return
        # The process is at its end, and tells its status in a moment.
        self.loop.remove_reader(self._socket.fileno())
        self.loop.call_later(END_TIME, self.kill)

    def _read(self) -> bool:
        """Take one piece; False at the end."""
        try:
            data = self._socket.recv(RECEIVE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        try:
            for kind, call, payload in self._assembler.feed(data):
                self._received(kind, call, payload)
        except ValueError:
            self.kill()  # the function has written to a descriptor that was not its own
            return False
        return bool(data)

    def _received(self, kind: Kind, call: int, payload: bytes) -> None:
        if kind is Kind.READY:
            if not self._ready.done():
                self._ready.set_result(Outcome(Kind.ERROR, payload) if payload else None)
        elif kind is Kind.PINNED:
            if not self._pinned.done():
                self._pinned.set_result(Outcome(Kind.ERROR, payload) if payload else None)
        elif kind in (Kind.VALUE, Kind.ERROR):
            for output in self._outputs:
                output.read()  # what it printed comes before what it returned
            if call == self.call and self._result is not None and not self._result.done():
                self._result.set_result(Outcome(kind, payload))
        elif kind is Kind.ITEM:
            if call == self.call:
                self.user.item(self, payload)
        elif kind in (Kind.BLOCKED, Kind.UNBLOCKED):
            if self.waiting is not (kind is Kind.BLOCKED):  # said once: a place is lent and taken back once
                self.waiting = kind is Kind.BLOCKED
                self.user.blocked(self, self.waiting)
        else:
            self.user.nested(self, kind, call, payload)

    # --- the end --------------------------------------------------------------------------------

    def _has_ended(self) -> None:
        if self.dead:
            return
        while self._pending() and self._read():
            pass
        self.kill()  # what it has started goes with it
        self.dead = True
        self.process.wait()
        for output in self._outputs:
            output.read()
            output.close()
        self.loop.remove_reader(self._socket.fileno())
        self.loop.remove_writer(self._socket.fileno())
        self._socket.close()
        if self._pidfd >= 0:
            self.loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.launch.close()
        for future in (self._pinned, self._ready, self._result):
            if future is not None and not future.done():
                future.set_exception(self.death())
        for future in (self._pinned, self._ready):
            if not future.cancelled():
                future.exception()  # looked at, whoever waits for it
        self.gone.set_result(None)
        self.user.died(self)

    def _pending(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def death(self) -> RemoteError:
        """Why the process is no more."""
        status = self.process.returncode or 0
        name = self.spec.name
        if status < 0:
            how = f"was ended by {_signal_name(-status)}"
            hint = "Memory ran out, or somebody ended it" if status == -signal.SIGKILL else ""
        else:
            how, hint = f"ended with status {status} instead of returning", ""
        error = RemoteError(f"The process of {name} {how}", hint=hint)
        if self.last_lines:
            error.add_note("Its last lines:\n" + "\n".join(self.last_lines))
        return error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
