"""TCP from end to end: tunnels in this loop or in processes of their own, and ways to break them.

::

    async with Service(echo) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        await visitor.send(b"hello")
        assert await visitor.exactly(5) == b"hello"
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.e2e.http_support import Service, Site, Wire
from tests.support.processes import Child, start_process
from tests.support.scripted import PATIENCE, dial, until
from tunnelkit.agent import Agent, Event
from tunnelkit.net.listen import Listener, bind
from tunnelkit.net.sockets import hard_close
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay import Limits, Relay

QUICK = Limits(ping_interval=0.4, ping_timeout=0.4)
"""A relay that finds a dead connection in less than a second."""

PIECE = 1 << 16

T = TypeVar("T")

PART = Path(__file__).with_name("part.py")


async def echo(wire: Wire) -> None:
    """Sends back what comes, and its end."""
    while piece := await asyncio.get_running_loop().sock_recv(wire.sock, PIECE):
        await wire.send(piece)


async def hold(wire: Wire) -> None:
    """Leaves the connection to the test."""
    await asyncio.Event().wait()


@asynccontextmanager
async def no_failures() -> AsyncIterator[None]:
    """A callback that fails anywhere in the loop fails the test."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    yield
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


@asynccontextmanager
async def connected(relay: Relay, *, url: str = "", splice: bool | None = None, **options: Any):
    """An agent of ``relay`` (over ``url``) and the list of its events."""
    events: list[Event] = []
    options = {"identity": "agent", **options}
    async with Agent(url or relay.url, splice=splice, on_event=events.append, **options) as agent:
        yield agent, events


@asynccontextmanager
async def tunnelled(
    target: Any,
    *,
    splice: bool | None = None,
    limits: Limits | None = None,
    listen: str = "127.0.0.1:0",
    **wishes: Any,
) -> AsyncIterator[Site]:
    """A TCP tunnel to ``target``, its relay and agent in this loop."""
    async with (
        no_failures(),
        Relay(listen=listen, limits=limits, splice=splice) as relay,
        connected(relay, splice=splice) as (agent, events),
    ):
        site = Site(relay, agent, await agent.open("tcp", target, **wishes), events)
        try:
            yield site
        finally:
            site.close()


@asynccontextmanager
async def visiting(host: str, port: int) -> AsyncIterator[Wire]:
    """One visitor's connection."""
    wire = Wire(await dial(host, port))
    try:
        yield wire
    finally:
        wire.close()


async def answers(host: str, port: int) -> bool:
    """Whether an echo service answers there."""
    with suppress(OSError, EOFError):
        async with visiting(host, port) as visitor:
            await visitor.send(b"anybody?")
            return await visitor.exactly(8) == b"anybody?"
    return False


async def comes_back(host: str, port: int, seconds: float = PATIENCE) -> None:
    """Wait until an echo service answers there."""
    async with asyncio.timeout(seconds):
        while not await answers(host, port):
            await asyncio.sleep(0.01)


async def goes_away(host: str, port: int) -> None:
    """Wait until nobody listens there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                (await dial(host, port)).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was still in the queue of a listener that was closed
                pass


async def event(events: list[Event], kind: str, code: str | None = None) -> Event:
    """The latest event of a kind, waited for."""

    def found() -> list[Event]:
        return [event for event in events if event.kind == kind and code in (None, event.code)]

    await until(found)
    return found()[-1]


# --- between agent and relay --------------------------------------------------------------------


class Hop:
    """One connection through a :class:`Forwarder`."""

    def __init__(self, near: socket.socket, far: socket.socket, tasks: Tasks) -> None:
        self.ends = near, far
        self._moving = [tasks.spawn(self._move(near, far), "up"), tasks.spawn(self._move(far, near), "down")]

    async def _move(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while piece := await loop.sock_recv(source, PIECE):
                await loop.sock_sendall(sink, piece)
            sink.shutdown(socket.SHUT_WR)

    def freeze(self) -> None:
        """From now on nothing arrives, and neither side is told: half-open."""
        for task in self._moving:
            task.cancel()

    def cut(self) -> None:
        """End it on both sides."""
        self.freeze()
        for sock in self.ends:
            sock.close()

    def reset(self) -> None:
        """Reset it on both sides."""
        self.freeze()
        for sock in self.ends:
            hard_close(sock)


class Forwarder:
    """A hop between an agent and its relay in the test's hand. The first connection is the agent's
    control connection."""

    def __init__(self, relay: Relay) -> None:
        self.hops: list[Hop] = []
        self._target = relay.addresses[0]

    async def __aenter__(self) -> Self:
        self._tasks = Tasks("forwarder")
        self._listener = Listener(asyncio.get_running_loop(), bind("127.0.0.1", 0), self._accept)
        self.url = f"ws://127.0.0.1:{self._listener.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._tasks.close()
        for hop in self.hops:
            hop.cut()

    def _accept(self, near: socket.socket, address: object) -> None:
        far = socket.create_connection(self._target)
        far.setblocking(False)
        self.hops.append(Hop(near, far, self._tasks))

    @property
    def control(self) -> Hop:
        return self.hops[0]


# --- in processes of their own ------------------------------------------------------------------


def part(role: str, **options: Any) -> Child:
    """A relay, an agent or a service as a process, for ``async with``; see ``part.py``.

    It runs on the kind of loop that this test runs on.
    """
    kind = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    argv = [sys.executable, str(PART), role, kind, json.dumps(options)]
    return start_process(argv, ready=r"^ready (\S+)")


# --- cancellation -------------------------------------------------------------------------------


async def cancelled_at_each_step(
    prepare: Callable[[], Awaitable[T]],
    act: Callable[[T], Coroutine[Any, Any, Any]],
    check: Callable[[T], Awaitable[Any]],
    *,
    at_most: int = 1000,
    stride: int = 1,
) -> int:
    """Cancel ``act`` before its first step of the loop, then after one, and so on until it completes.

    ``prepare`` makes what it acts on, ``check`` what came of it; tasks that are left fail. ``stride``
    leaves steps out where each is slow. How many steps ``act`` took in the end.
    """
    before = asyncio.all_tasks()
    for steps in range(0, at_most, stride):
        subject = await prepare()
        task = asyncio.create_task(act(subject))
        for _ in range(steps):
            if task.done():
                break
            await asyncio.sleep(0)
        completed = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        await check(subject)
        await until(lambda: not {task for task in asyncio.all_tasks() if not task.done()} - before)
        if completed:
            break
    return steps


__all__ = [
    "PATIENCE",
    "QUICK",
    "Forwarder",
    "Service",
    "Site",
    "Wire",
    "answers",
    "cancelled_at_each_step",
    "comes_back",
    "connected",
    "dial",
    "echo",
    "event",
    "goes_away",
    "hold",
    "no_failures",
    "part",
    "tunnelled",
    "until",
    "visiting",
]
