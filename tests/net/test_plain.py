"""A plain socket as a stream, joined with another: nothing is lost, and an abort is no clean end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.e2e.http_support import Wire
from tests.support.scripted import until
from tunnelkit.net import pump as pump_module
from tunnelkit.net.plain import PlainStream
from tunnelkit.net.pump import Join, Pump

DATA = bytes(range(256)) * 4096  # 1 MiB: more than these sockets' buffers


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setblocking(False)
    return one, other


class Line:
    """A client and a server, and between them a join and its stream."""

    def __init__(self, pump: Pump) -> None:
        near, inner = pair()
        outer, far = pair()
        self.client, self.server = Wire(near), Wire(far)
        self.codes: list[str | None] = []
        self.closed: list[PlainStream] = []
        self.stream = PlainStream(pump, outer, "192.0.2.1", self.closed.append)
        self.join = Join(pump, inner, self.stream, lambda _, code: self.codes.append(code))
        self.pump = pump

    def start(self, early: bytes = b"") -> None:
        self.stream.use(self.join)
        self.join.start(early)
        self.stream.resume()


@asynccontextmanager
async def line(*, splice: bool = True, stall_timeout: float = 300.0) -> AsyncIterator[Line]:
    pump = Pump(asyncio.get_running_loop(), splice=splice, stall_timeout=stall_timeout)
    it = Line(pump)
    try:
        yield it
    finally:
        if not it.codes:
            it.join.cancel("over")
        it.stream.cancel("over")
        it.client.close()
        it.server.close()
        assert it.closed == [it.stream]
        assert not pump._watched
        pump.close()


both = pytest.mark.parametrize("splice", [True, False])


@both
async def test_bulk_and_half_close_one_way_after_the_other(splice: bool) -> None:
    async with line(splice=splice) as it:
        it.start(b"early ")

        async def serve() -> None:
            assert await it.server.rest() == b"early " + DATA
            await it.server.send(DATA)
            it.server.shutdown()

        async def ask() -> None:
            await it.client.send(DATA)
            it.client.shutdown()
            assert await it.client.rest() == DATA

        await asyncio.gather(serve(), ask())
        await until(lambda: it.codes == [None] and it.closed)


@both
async def test_both_ways_at_once(splice: bool) -> None:
    async with line(splice=splice) as it:
        it.start()

        async def side(wire: Wire) -> None:
            await wire.send(DATA)
            wire.shutdown()

        async def other(wire: Wire) -> None:
            assert await wire.rest() == DATA

        await asyncio.gather(side(it.client), side(it.server), other(it.client), other(it.server))
        await until(lambda: it.codes == [None] and it.closed)


async def test_what_a_handshake_has_received_comes_first() -> None:
    async with line() as it:
        it.stream.unread(b"unread ")
        await it.server.send(b"and read")
        it.start()
        assert await it.client.exactly(15) == b"unread and read"


async def test_nothing_is_read_before_resume() -> None:
    async with line() as it:
        await it.server.send(b"early")
        it.stream.use(it.join)
        it.join.start()
        await asyncio.sleep(0.01)
        assert not it.client.seen
        it.stream.resume()
        assert await it.client.exactly(5) == b"early"


@pytest.fixture
def _resets_are_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "WATCH_INTERVAL", 0.01)


@both
@pytest.mark.usefixtures("_resets_are_seen_soon")
@pytest.mark.parametrize("ended", [False, True])
async def test_a_reset_passes_and_not_as_an_end(splice: bool, ended: bool) -> None:
    async with line(splice=splice) as it:
        it.start()
        if ended:
            it.server.shutdown()
            assert await it.client.ended()
        it.server.reset()
        for _ in range(1000):  # to one that has ended there is nothing to be read: what is sent tells
            try:
                await it.client.send(b"x")
            except (ConnectionResetError, BrokenPipeError):
                break
            await asyncio.sleep(0.001)
        await until(lambda: it.codes == ["reset"])


@both
@pytest.mark.usefixtures("_resets_are_seen_soon")
async def test_what_came_before_a_reset_is_delivered(splice: bool) -> None:
    async with line(splice=splice) as it:
        it.start()
        await it.server.send(b"answer")
        await it.client.exactly(6)
        it.join.stream.pause()
        await it.server.send(b"last words")
        it.server.reset()
        await asyncio.sleep(0.05)  # until it has been seen to be broken
        it.join.stream.resume()
        assert await it.client.broken() == b"last words"


async def blocked(wire: Wire, condition: Callable[[], object]) -> None:
    """Fill the way of ``wire`` until ``condition`` holds."""
    while not condition():
        try:
            wire.sock.send(DATA)
        except BlockingIOError:
            await asyncio.sleep(0.001)


@both
@pytest.mark.usefixtures("_resets_are_seen_soon")
async def test_a_server_that_takes_nothing_is_given_up(splice: bool) -> None:
    async with line(splice=splice, stall_timeout=0.05) as it:
        it.start()
        await blocked(it.client, lambda: it.codes)
        assert it.codes == ["stalled"]


@both
async def test_what_is_on_its_way_when_both_have_ended_still_arrives(splice: bool) -> None:
    async with line(splice=splice) as it:
        it.start()
        it.server.shutdown()
        assert await it.client.ended()
        sending = asyncio.ensure_future(it.client.send(DATA))
        await until(lambda: it.stream._blocked)
        received = asyncio.ensure_future(it.server.rest())
        await sending
        it.client.shutdown()
        assert await received == DATA
        await until(lambda: it.closed)
        assert it.codes == [None]


@both
async def test_cancelled_while_blocked(splice: bool) -> None:
    async with line(splice=splice) as it:
        it.start()
        await blocked(it.client, lambda: it.stream._blocked)
        it.join.cancel("wanted")
        assert it.codes == ["wanted"]
        assert it.closed


async def test_pipes_go_back_when_nothing_moves() -> None:
    async with line() as it:
        if not it.pump.splices:
            pytest.skip("splice(2) is of Linux")
        it.start()
        receiving = asyncio.ensure_future(it.client.exactly(len(DATA)))
        await it.server.send(DATA)
        assert await receiving == DATA
        assert it.join._pipe_in is None
        assert it.stream._pipe is None
