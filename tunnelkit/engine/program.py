"""The program's side of the engine: starts it, asks it for tunnels, survives its end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import Future
from typing import Final, TypeVar

import msgspec

from tunnelkit.engine import messages
from tunnelkit.engine.launch import interpreter, socket_pair
from tunnelkit.engine.messages import Close, Closed, Create, Created, Failed, Idle, Log, Lost
from tunnelkit.errors import EngineError, TunnelkitError, from_code

__all__ = ["EngineTunnel", "engine_pid", "open_tunnel", "open_tunnel_async"]

log = logging.getLogger("tunnelkit")

START_TIME = 15.0
"""Seconds by which an answer may be late: an engine starts in 0.2 s, on a busy small machine in a few."""

CLOSE_TIME = 5.0
"""Seconds to wait for a tunnel to be closed; then the program goes on, and the engine as it can."""

END_TIME = 2.0
"""Seconds for the engine to end once it is told to; then it is killed."""

MAIN = "from tunnelkit.engine.process import main"

Result = TypeVar("Result")


def _environment() -> dict[str, str]:
    """The program's, for its proxy settings, without tunnelkit's own: a token is not for show."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TUNNELKIT_") or name == "TUNNELKIT_LOG"
    }


def _settle(future: Future[Result], result: Result | TunnelkitError) -> None:
    """Give ``future`` its result, unless it has one or nobody waits any more."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(result, TunnelkitError):
        future.set_exception(result)
    else:
        future.set_result(result)


class EngineTunnel:
    """A tunnel in the engine, from the request to its end."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.error: TunnelkitError | None = None
        """Why the tunnel ended, where nobody closed it."""
        self.answer: Future[Created] = Future()
        self.ended = threading.Event()
        self._engine = engine
        self._number = number

    @property
    def closed(self) -> bool:
        """Whether the tunnel has ended."""
        return self.ended.is_set()

    def close(self) -> None:
        """Close the tunnel, and return when that is done. Safe to call twice, and from any thread.

        In a fork this does nothing: the tunnel is the parent's.
        """
        self.give_up()
        if not self._engine.abandoned:
            self.ended.wait(CLOSE_TIME)

    def give_up(self) -> None:
        """Have the tunnel closed, without waiting for it."""
        if not self._engine.abandoned and not self.closed:
            self._engine.send(Close(self._number))

    def has_ended(self, error: TunnelkitError | None) -> None:
        self.error = error
        self.ended.set()
        _settle(self.answer, error or EngineError("The tunnel was closed before it was up"))


class Engine:
    """One engine process. Raises EngineError if it cannot be started."""

    def __init__(self, program: Program) -> None:
        self.abandoned = False
        """Whether this is a fork of the program that the engine belongs to."""
        self._program = program
        self._tunnels: dict[int, EngineTunnel] = {}
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        self._closing = False
        self._reader = threading.Thread(target=self._read, name="tunnelkit engine", daemon=True)
        with contextlib.ExitStack() as unless_started:
            try:
                self._socket, theirs = map(unless_started.enter_context, socket_pair())
                self.process = self._start(theirs.fileno())
                self._reader.start()
            # ImportError: this is no Unix. RuntimeError: the interpreter ends and starts no threads.
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                raise EngineError(f"The engine process cannot be started: {error}") from error
            unless_started.pop_all()
            theirs.close()

    def _start(self, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            interpreter(MAIN, descriptor),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
            cwd="/",  # or it would hold the program's directory
            pass_fds=(descriptor,),
            # Ctrl-C and Ctrl-Z are for the program: what it does then, it does with its tunnels up.
            start_new_session=True,
        )

    # --- to the engine --------------------------------------------------------------------------

    def request(self, create: Create) -> EngineTunnel:
        """Ask for a tunnel; ``create.id`` is filled in. Raises OSError if the engine is gone."""
        number = next(self._numbers)
        tunnel = self._tunnels[number] = EngineTunnel(self, number)
        try:
            with self._sending:
                self._socket.sendall(messages.encode(msgspec.structs.replace(create, id=number)))
        except OSError:
            del self._tunnels[number]
            raise
        return tunnel

    def send(self, message: messages.FromProgram) -> None:
        """Send ``message``; nothing happens if the engine is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(messages.encode(message))

    @property
    def unused(self) -> bool:
        """Whether no tunnel is open or asked for."""
        return not self._tunnels

    # --- from the engine ------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
                for line in lines:
                    self._received(messages.decode_from_engine(line))
        finally:
            self._has_ended()

    def _received(self, message: messages.FromEngine) -> None:
        match message:
            case Created(id=number):
                _settle(self._tunnels[number].answer, message)
            case Failed(id=number):
                error = from_code(message.code, message.what, message.hint)
                self._tunnels.pop(number).has_ended(error)
            case Lost(id=number):
                error = from_code(message.code, message.what, message.hint)
                log.error("a tunnel is lost: %s", error)
                self._tunnels.pop(number).has_ended(error)
            case Closed(id=number):
                if (tunnel := self._tunnels.pop(number, None)) is not None:
                    tunnel.has_ended(None)
            case Log():
                log.log(message.level, "%s", message.text)
            case Idle():
                self._program.let_go(self)

    def _has_ended(self) -> None:
        try:
            status = self.process.wait(END_TIME)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._program.forget(self)
        with self._sending:
            self._socket.close()
        how = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        lost = list(self._tunnels.values())
        self._tunnels.clear()
        if lost and not self._closing:
            log.error("the engine process ended (%s); tunnels lost: %d", how, len(lost))
        for tunnel in lost:
            tunnel.has_ended(None if self._closing else EngineError(f"The engine process ended ({how})"))

    # --- the end --------------------------------------------------------------------------------

    def close(self, *, wait: bool = False) -> None:
        """End the engine with all its tunnels."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if wait:
            self._reader.join(2 * END_TIME)

    def abandon(self) -> None:
        """In a fork: let go of what belongs to the parent."""
        self.abandoned = True
        self._socket.close()
        self.process.returncode = 0  # not a child of this process, and not to be waited for


class Program:
    """The engine of this program: none, or one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            # Under the lock no engine is half started, with ends of its socket pair that a fork
            # would inherit and never close.
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._after_fork,
            )

    def request(self, create: Create) -> EngineTunnel:
        """Ask for a tunnel, of a new engine where there is none."""
        with self._lock:
            if self._engine is not None:
                with contextlib.suppress(OSError):  # it has just ended
                    return self._engine.request(create)
            self._engine = Engine(self)
            try:
                return self._engine.request(create)
            except OSError as error:
                raise EngineError("The engine process ended as soon as it started") from error

    @property
    def pid(self) -> int | None:
        """The engine's process, if there is one."""
        with self._lock:
            return None if self._engine is None else self._engine.process.pid

    def let_go(self, engine: Engine) -> None:
        """The engine has nothing to do. It ends only if nothing has been asked for in the meantime."""
        with self._lock:
            if engine.unused:
                self.forget(engine)
                engine.close()

    def forget(self, engine: Engine) -> None:
        """The next request is for another engine."""
        with self._lock:
            if self._engine is engine:
                self._engine = None

    def _at_exit(self) -> None:
        with self._lock:
            engine = self._engine
        if engine is not None:
            engine.close(wait=True)

    def _after_fork(self) -> None:
        if self._engine is not None:
            self._engine.abandon()
            self._engine = None
        self._lock.release()


_program: Final = Program()
"""The one object that stands for this process; the interpreter's exit and fork hooks need one too."""


def open_tunnel(create: Create) -> tuple[EngineTunnel, Created]:
    """Open a tunnel and return when it is up. Raises TunnelkitError of the kind that fits."""
    tunnel = _program.request(create)
    try:
        return tunnel, tunnel.answer.result(create.timeout + START_TIME)
    except BaseException as error:
        tunnel.give_up()
        if isinstance(error, TimeoutError) and not isinstance(error, TunnelkitError):
            raise EngineError("The engine process does not answer") from None
        raise


async def open_tunnel_async(create: Create) -> tuple[EngineTunnel, Created]:
    """Like :func:`open_tunnel`; being cancelled closes what comes up."""
    tunnel = _program.request(create)
    try:
        async with asyncio.timeout(create.timeout + START_TIME):
            return tunnel, await asyncio.wrap_future(tunnel.answer)
    except BaseException as error:
        tunnel.give_up()
        if isinstance(error, TimeoutError) and not isinstance(error, TunnelkitError):
            raise EngineError("The engine process does not answer") from None
        raise


def engine_pid() -> int | None:
    """The process id of this program's engine, if one is running: for diagnosis."""
    return _program.pid
