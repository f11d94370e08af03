"""HTTP from end to end in one loop: visitor – relay – agent – service, both outer ends in the test's hand.

::

    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        assert (await visitor.response()).status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest

from tunnelkit.agent import Agent
from tunnelkit.agent.agent import AgentTunnel
from tunnelkit.agent.events import Event
from tunnelkit.net.sockets import hard_close, tune
from tunnelkit.relay import Relay
from tunnelkit.relay.http_upstream import Upstream
from tunnelkit.relay.http_visitor import HttpVisitor
from tunnelkit.relay.limits import Limits

PATIENCE = 20.0  # seconds for one step of a test; two busy cores need a fraction of it

PIECE = 1 << 18

NARROW = 4096  # bytes of a kernel's buffer, of which Linux makes twice as many

SPLICES = [pytest.param(True, id="splice"), pytest.param(False, id="copy")]

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Message:
    """A request or a response as it was read. ``start`` is its first line, ``fields`` as received."""

    start: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the field ``name``."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: bytes) -> bool:
        return bool(self.all(name))

    @property
    def names(self) -> set[bytes]:
        return {name.lower() for name, _ in self.fields}


class Wire:
    """One end of a TCP connection. Every wait has a deadline; a reset raises ConnectionResetError."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        tune(sock)
        self.sock = sock
        self.seen = bytearray()
        """Everything received so far, whether or not it has been asked for."""
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self.sock, data)

    async def _more(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            piece = await self._loop.sock_recv(self.sock, PIECE)
        self.seen += piece
        self._buffer += piece
        return bool(piece)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def until(self, mark: bytes) -> bytes:
        """Through ``mark``. Raises EOFError."""
        while (found := self._buffer.find(mark)) < 0:
            if not await self._more():
                raise EOFError(f"no {mark!r} in {bytes(self._buffer[:200])!r}")
        return self._take(found + len(mark))

    async def exactly(self, count: int) -> bytes:
        """Raises EOFError."""
        while len(self._buffer) < count:
            if not await self._more():
                raise EOFError(f"{len(self._buffer)} bytes of {count}")
        return self._take(count)

    async def slowly(self, condition: Callable[[], Any]) -> bytes:
        """What comes, a little at a time, until ``condition`` holds."""
        taken = b""
        while not condition():
            taken += await self.exactly(NARROW // 8)
            await asyncio.sleep(0)
        return taken

    async def rest(self) -> bytes:
        """Everything up to the clean end."""
        while await self._more():
            pass
        return self._take(len(self._buffer))

    async def ended(self) -> bool:
        """Whether the connection ends here, cleanly and with nothing before."""
        return not await self.rest()

    async def broken(self) -> bytes:
        """Everything up to the reset that has to come."""
        with pytest.raises(ConnectionResetError):
            await self.rest()
        return bytes(self._buffer)

    async def head(self) -> Message:
        """A head alone. Raises EOFError."""
        start, *lines = (await self.until(b"\r\n\r\n")).split(b"\r\n")[:-2]
        return Message(start, _fields(lines))

    async def response(self, method: bytes = b"GET") -> Message:
        """A whole response to a ``method`` request, read by its framing."""
        head = await self.head()
        if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
            return head
        if b"Transfer-Encoding" in head or b"Content-Length" in head:
            return await self._with_body(head)
        return Message(head.start, head.fields, await self.rest())

    async def request(self) -> Message:
        """A whole request."""
        return await self._with_body(await self.head())

    async def _with_body(self, head: Message) -> Message:
        if b"Transfer-Encoding" in head:
            body, trailers = await self._chunks()
            return Message(head.start, head.fields, body, trailers)
        length = int(head[b"Content-Length"]) if b"Content-Length" in head else 0
        return Message(head.start, head.fields, await self.exactly(length))

    async def _chunks(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        body = bytearray()
        while size := int((await self.until(b"\r\n")).partition(b";")[0], 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        lines = []
        while line := (await self.until(b"\r\n"))[:-2]:
            lines.append(line)
        return bytes(body), _fields(lines)

    @property
    def quiet(self) -> bool:
        """Whether nothing has come that was not asked for."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._buffer
        return False

    async def ask(self, request: bytes = GET) -> Message:
        """Send a whole request and read its response."""
        await self.send(request)
        return await self.response(request.partition(b" ")[0])

    def shutdown(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        hard_close(self.sock)

    def close(self) -> None:
        self.sock.close()


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in lines)
    return [(name, value.strip()) for name, _, value in pairs]


Handler = Callable[[Wire], Awaitable[None]]


class Service:
    """A server on 127.0.0.1 whose every connection is in the hand of ``handler``, a coroutine function.

    A connection is closed when its handler returns. What a handler raises fails the test, except that
    its peer has gone.
    """

    def __init__(self, handler: Handler, *, port: int = 0) -> None:
        self.port = port
        self.connections: list[Wire] = []
        self.failures: list[BaseException] = []
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.sock = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [self._accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.sock.close()
        if self.failures and error is None:
            raise self.failures[0]
        if self.failures and error is not None:
            error.add_note(f"The service failed, too: {self.failures[0]!r}")

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.sock)
            wire = Wire(sock)
            self.connections.append(wire)
            task = asyncio.create_task(self._serve(wire))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            async with self._arrived:
                self._arrived.notify_all()

    async def _serve(self, wire: Wire) -> None:
        try:
            await self._handler(wire)
        except (ConnectionError, EOFError):
            pass
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - pytest's own are no Exception; see __aexit__
            self.failures.append(error)
        finally:
            wire.close()

    async def connection(self, number: int = 0) -> Wire:
        """The connection ``number``, waited for."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.connections) > number)
        return self.connections[number]

    async def settled(self) -> None:
        """Return when every connection so far has been served to its end."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)

    @property
    def seen(self) -> bytes:
        """Every byte that was received, on all connections together."""
        return b"".join(bytes(wire.seen) for wire in self.connections)


def answering(*responses: bytes) -> Handler:
    """Answers each request of a connection with the next response, and then again with the last."""

    async def handle(wire: Wire) -> None:
        number = 0
        while True:
            await wire.request()
            await wire.send(responses[min(number, len(responses) - 1)])
            number += 1

    return handle


def silent(wire: Wire) -> Awaitable[Any]:
    """Takes what comes and never answers."""
    return wire.rest()


@dataclass
class Site:
    """A tunnel, and both engines it runs through."""

    relay: Relay
    agent: Agent
    tunnel: AgentTunnel
    events: list[Event]
    _visitors: list[Wire] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.tunnel.url

    @property
    def address(self) -> tuple[str, int]:
        """Where visitors connect to."""
        listener, *_ = self.relay.addresses
        return listener if self.relay.domain else (self.tunnel.host, self.tunnel.port)

    @property
    def upstreams(self) -> list[Upstream]:
        """The relay's connections to the service that rest between requests."""
        (session,) = self.relay._door.sessions.values()
        return session.tunnels[self.tunnel.number].upstreams

    async def visit(self, address: tuple[str, int] | None = None, *, narrow: bool = False) -> Wire:
        """A visitor's connection, closed with the site; ``narrow``: it takes next to nothing unread."""
        sock = socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        sock.setblocking(False)
        wire = Wire(sock)
        self._visitors.append(wire)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, address or self.address)
        return wire

    async def slow_visit(self) -> tuple[Wire, HttpVisitor]:
        """A visitor for whom the relay always has to keep something, and the relay's view of it."""
        wire = await self.visit(narrow=True)
        await until(lambda: self.relay._http._visitors)
        (inside,) = self.relay._http._visitors
        inside._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        return wire, inside

    async def ask(self, request: bytes = GET) -> Message:
        """One request on a connection of its own."""
        visitor = await self.visit()
        try:
            return await visitor.ask(request)
        finally:
            visitor.close()

    def close(self) -> None:
        for visitor in self._visitors:
            visitor.close()


@contextlib.asynccontextmanager
async def tunnelled(
    target: Service | int,
    *,
    domain: str = "",
    limits: Limits | None = None,
    splice: bool | None = None,
    host_header: str = "",
    startup_grace: float = 0.0,
    proxy_protocol_from: Sequence[str] = (),
) -> AsyncIterator[Site]:
    """An HTTP tunnel to ``target``, as if its relay had run for long.

    A callback that fails anywhere in the loop fails the test.
    """
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    events: list[Event] = []
    port = target if isinstance(target, int) else target.port
    async with (
        Relay(
            listen="127.0.0.1:0",
            domain=domain,
            limits=limits,
            splice=splice,
            startup_grace=startup_grace,
            proxy_protocol_from=proxy_protocol_from,
        ) as relay,
        Agent(relay.url, splice=splice, identity="agent", on_event=events.append) as agent,
    ):
        tunnel = await agent.open("http", port, name="app", host_header=host_header)
        site = Site(relay, agent, tunnel, events)
        try:
            yield site
        finally:
            site.close()
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what no event tells: the state of the other side."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
