"""The process of one function: loads it once, then runs one call after another.

What is imported here is paid at each cold start.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NoReturn

from tunnelkit.config.handed import hand
from tunnelkit.errors import TunnelkitError
from tunnelkit.functions.failure import outcome_of_error, outcome_of_value, serialize
from tunnelkit.functions.messages import WINDOW, Assembler, Kind, Outcome, Setup, new_call, pack, pack_spawn

__all__ = ["NestedCall", "Parent", "main", "parent"]

RECEIVE = 256 * 1024


class NestedCall:
    """A call of another function, made from inside this one."""

    def __init__(self, parent: Parent, number: int) -> None:
        self.number = number
        self.outcome: Outcome | None = None
        self._parent = parent
        self._items: deque[bytes] = deque()

    def received(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.ITEM:
            self._items.append(payload)
        else:
            self.outcome = Outcome(kind, payload)

    def wait(self, timeout: float | None) -> Outcome | None:
        """The outcome, waited for; None if it does not come in time."""
        self._parent.wait(lambda: self.outcome is not None, timeout)
        return self.outcome

    def next_item(self) -> bytes | None:
        """The next item, waited for; None where there is no more: see :attr:`outcome`."""
        self._parent.wait(lambda: bool(self._items) or self.outcome is not None, None)
        if not self._items:
            return None
        self._parent.send(Kind.MORE, self.number)
        return self._items.popleft()

    def close(self) -> None:
        """The rest of the items is not wanted."""
        self._parent.send(Kind.CLOSE, self.number)

    def cancel(self) -> None:
        self._parent.send(Kind.CANCEL, self.number)


class Parent:
    """The way to the program, for all threads of this process.

    There is no thread that reads: whoever waits does, and hands on what is for others.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._reading = False
        self._assembler = Assembler()
        self._inbox: deque[tuple[Kind, int, bytes]] = deque()
        self._nested: dict[int, NestedCall] = {}
        self._blocked = 0
        self._credit = 0
        self._closed: set[int] = set()

    # --- nested calls ---------------------------------------------------------------------------

    def spawn(self, key: str, arguments: bytes) -> NestedCall:
        """Have the function ``key`` called, where it belongs."""
        return self._expect(Kind.SPAWN, new_call(), pack_spawn(key, arguments))

    def follow(self, number: int) -> NestedCall:
        """A call that somebody else made."""
        return self._nested.get(number) or self._expect(Kind.FOLLOW, number, b"")

    def _expect(self, kind: Kind, number: int, payload: bytes) -> NestedCall:
        call = self._nested[number] = NestedCall(self, number)
        self.send(kind, number, payload)
        return call

    def forget(self, number: int) -> None:
        """The outcome of that call is not wanted here any more."""
        self._nested.pop(number, None)

    # --- messages -------------------------------------------------------------------------------

    def send(self, kind: Kind, call: int = 0, payload: bytes = b"") -> None:
        with self._sending:
            self._socket.sendall(pack(kind, call, payload))

    def wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until ``ready()``, for at most ``timeout`` seconds; the function's place is free meanwhile."""
        if ready():
            return True
        with self._changed:
            self._blocked += 1
            if self._blocked == 1:
                self.send(Kind.BLOCKED)
        try:
            return self.read_until(ready, timeout)
        finally:
            with self._changed:
                self._blocked -= 1
                if not self._blocked:
                    self.send(Kind.UNBLOCKED)

    def read_until(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Read, or wait while another thread does, until ``ready()``."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not ready():
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._reading:
                    self._changed.wait(left)
                    continue
                self._reading = True
                self._changed.release()
                try:
                    data = self._receive(left)
                finally:
                    self._changed.acquire()
                    self._reading = False
                    self._changed.notify_all()
                for message in self._assembler.feed(data):
                    self._received(*message)
        return True

    def _receive(self, timeout: float | None) -> bytes:
        if timeout is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(timeout * 1000):
                return b""
        data = self._socket.recv(RECEIVE)
        if not data:
            _end()
        return data

    def _received(self, kind: Kind, call: int, payload: bytes) -> None:
        if kind is Kind.MORE:
            self._credit += 1
        elif kind is Kind.CLOSE:
            self._closed.add(call)
        elif kind in (Kind.VALUE, Kind.ERROR, Kind.ITEM):
            if (nested := self._nested.get(call)) is not None:
                nested.received(kind, payload)
        else:
            self._inbox.append((kind, call, payload))

    def next_call(self) -> tuple[Kind, int, bytes]:
        """What to do next, waited for."""
        self.read_until(lambda: bool(self._inbox))
        self._credit = WINDOW
        self._closed.clear()
        return self._inbox.popleft()

    # --- items ----------------------------------------------------------------------------------

    def item(self, call: int, payload: bytes) -> bool:
        """Send one item of a generator; False if nobody wants more."""
        self.read_until(lambda: self._credit > 0 or call in self._closed)
        if call in self._closed:
            return False
        self._credit -= 1
        self.send(Kind.ITEM, call, payload)
        return True

    def abandon(self) -> None:
        """This process is a fork of the function's: it must not speak in its place."""
        self._socket.close()


class _Process:
    """The one thing that stands for this process."""

    parent: Parent | None = None

    def forked(self) -> None:
        if self.parent is not None:
            self.parent.abandon()


_process: Final = _Process()


def parent() -> Parent | None:
    """The way to the program, in the process of a function; None in the program itself."""
    return _process.parent


def _end() -> NoReturn:
    """The program has gone: so does all that this process has started, too."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _watch(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, 0)  # that the other end is closed is reported whatever is asked for
    while not poll.poll():
        pass
    _end()


def main(prove: Callable[[], None] | None = None) -> None:
    """``python -c … DESCRIPTOR``: the process from beginning to end.

    ``prove``: shows the program that the process is pinned, before it is given anything to run.
    """
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    _no_core_dumps()
    threading.Thread(target=_watch, args=(sock,), name="tunnelkit watch", daemon=True).start()
    _process.parent = link = Parent(sock)
    os.register_at_fork(after_in_child=_process.forked)
    if prove is not None:
        try:
            prove()
        except TunnelkitError as error:
            link.send(Kind.PINNED, 0, outcome_of_error(error, text="").payload)
            return
        link.send(Kind.PINNED)
    _, _, payload = link.next_call()
    setup: Setup = pickle.loads(payload)
    try:
        function = _load(setup)
    except BaseException as error:  # noqa: BLE001 - the program's own modules raise what they like
        link.send(Kind.READY, 0, outcome_of_error(error).payload)
        return
    link.send(Kind.READY)
    with asyncio.Runner() as runner:
        while True:
            _, number, arguments = link.next_call()
            outcome = _run(link, runner, function, setup.name, number, arguments)
            _flush()
            link.send(outcome.kind, number, outcome.payload)


def _no_core_dumps() -> None:
    """A core dump would hold the secrets."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load(setup: Setup) -> Callable[..., Any]:
    sys.path[:] = setup.path
    sys.argv[:] = setup.argv
    os.environ.update(setup.environment)
    hand(setup.relay)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    function: Callable[..., Any] = pickle.loads(setup.function)
    return function


def _run(
    link: Parent,
    runner: asyncio.Runner,
    function: Callable[..., Any],
    name: str,
    number: int,
    arguments: bytes,
) -> Outcome:
    try:
        args, kwargs = pickle.loads(arguments)
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = runner.run(result)
        elif inspect.isasyncgen(result):
            result = runner.run(_send_async(link, number, result, name))
        elif inspect.isgenerator(result):
            _send_items(link, number, result, name)
            result = None
        return outcome_of_value(result, name)
    except BaseException as error:  # noqa: BLE001 - the task boundary: it is raised again in the program
        return outcome_of_error(error)


def _send_items(link: Parent, number: int, items: Iterator[Any], name: str) -> None:
    for item in items:
        if not link.item(number, serialize(item, f"What {name} yielded")):
            items.close()  # type: ignore[attr-defined]
            return


async def _send_async(link: Parent, number: int, items: AsyncIterator[Any], name: str) -> None:
    async for item in items:
        payload = serialize(item, f"What {name} yielded")
        if not await asyncio.to_thread(link.item, number, payload):
            await items.aclose()  # type: ignore[attr-defined]
            return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the function has closed it
