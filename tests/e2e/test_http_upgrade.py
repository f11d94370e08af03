"""WebSocket applications behind the tunnel, and the switch of protocols itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from tests.e2e.http_support import OK, SPLICES, Service, Wire, answering, tunnelled
from tunnelkit.relay.ingress_http import HttpIngress
from tunnelkit.relay.limits import Limits

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Raw\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n"


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A WebSocket server that sends back what it gets; its port."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(handle, "127.0.0.1", 0, max_size=None) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("splice", SPLICES)
async def test_a_websocket_application(splice: bool) -> None:
    large = random.Random(3).randbytes(5_000_000)
    async with echo() as port, tunnelled(port, splice=splice) as site:
        address = site.url.replace("http:", "ws:")
        async with connect(address, max_size=None) as one, connect(address, max_size=None) as two:
            for message in ("text", b"binary", "", large):
                await one.send(message)
                assert await one.recv() == message
            await two.send("two")
            assert await two.recv() == "two"
            await (await one.ping())


async def test_a_websocket_outlives_the_limits_of_requests() -> None:
    limits = Limits(head_timeout=0.1, idle_timeout=0.1, response_timeout=0.1, ping_interval=0.2)
    async with echo() as port, tunnelled(port, limits=limits) as site:
        async with connect(site.url.replace("http:", "ws:")) as client:
            await asyncio.sleep(0.5)
            await client.send("still there")
            assert await client.recv() == "still there"


async def test_a_websocket_server_that_dies_is_seen_to() -> None:
    async def handle(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with serve(handle, "127.0.0.1", 0) as server:
        async with tunnelled(server.sockets[0].getsockname()[1]) as site:
            async with connect(site.url.replace("http:", "ws:")) as client:
                with pytest.raises(ConnectionClosedError):
                    await client.recv()


async def test_bytes_that_come_with_the_switch_arrive_in_either_direction() -> None:
    async def handle(wire: Wire) -> None:
        head = await wire.head()
        assert head[b"Connection"] == b"Upgrade"
        assert head[b"Upgrade"] == b"raw"
        await wire.send(SWITCH + b"welcome")
        assert await wire.exactly(5) == b"early"
        await wire.send(b"bye")

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(UPGRADE + b"early")
        answer = await visitor.head()
        assert (answer.status, answer[b"Upgrade"], answer[b"Connection"]) == (101, b"raw", b"Upgrade")
        assert await visitor.exactly(7) == b"welcome"
        assert await visitor.rest() == b"bye"


@pytest.mark.parametrize("early", [b"", b"early"])
async def test_nothing_passes_as_upgraded_before_the_switch(early: bytes) -> None:
    """What follows the request waits, however long the service thinks about it."""

    async def handle(wire: Wire) -> None:
        await wire.until(b"\r\n\r\n")
        asked.set()
        for _ in range(5):  # the way there and back, a few times
            await proceed.acquire()
            assert wire.quiet
            await wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await wire.send(SWITCH)
        assert await wire.exactly(len(early) + 3) == early + b"all"

    asked, proceed = asyncio.Event(), asyncio.Semaphore(0)
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(UPGRADE + early)
        await asked.wait()
        await visitor.send(b"all")
        for _ in range(5):
            proceed.release()
            assert (await visitor.head()).status == 103
        assert (await visitor.head()).status == 101
        await service.settled()


@pytest.mark.parametrize("catches_up", [False, True], ids=["still", "not any more"])
async def test_a_switch_reaches_a_visitor_that_was_slow_to_take_what_came_before(
    catches_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60_000 + b"\r\n\r\n"

    async def handle(wire: Wire) -> None:
        await wire.until(b"\r\n\r\n")
        await wire.send(hints * 5 + SWITCH + b"welcome")
        assert await wire.exactly(5) == b"hello"
        await wire.send(b"bye")

    def join(self: HttpIngress, sock: socket.socket, *stream: Any, **received: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        join_as_it_is(self, sock, *stream, **received)

    join_as_it_is = HttpIngress.join
    if catches_up:  # in that very moment
        monkeypatch.setattr(HttpIngress, "join", join)
    async with Service(handle) as service, tunnelled(service) as site:
        visitor, _ = await site.slow_visit()
        await visitor.send(UPGRADE)
        received = await visitor.slowly(lambda: site.relay._http._joins)
        received += await visitor.exactly(len(hints) * 5 + len(SWITCH + b"welcome") - len(received))
        assert received == hints * 5 + SWITCH.replace(b"upgrade", b"Upgrade") + b"welcome"
        await visitor.send(b"hello")
        assert await visitor.rest() == b"bye"


async def test_half_close_works_after_the_switch() -> None:
    async def handle(wire: Wire) -> None:
        await wire.head()
        await wire.send(SWITCH)
        assert await wire.rest() == b"question"
        await wire.send(b"answer" * 100_000)

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(UPGRADE + b"question")
        await visitor.head()
        visitor.shutdown()
        assert await visitor.rest() == b"answer" * 100_000
        await service.settled()


async def test_a_refused_upgrade_is_an_ordinary_answer_and_the_connection_goes_on() -> None:
    """What was sent in the hope of the switch is the next request, or none."""
    refusal = (
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: raw\r\nContent-Length: 2\r\n\r\nno"
    )
    async with Service(answering(refusal, OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        answer = await visitor.ask(UPGRADE)
        assert (answer.status, answer.body, answer[b"Upgrade"]) == (426, b"no", b"raw")
        assert (await visitor.ask()).body == b"ok"
        assert len(service.connections) == 1
        visitor = await site.visit()
        await visitor.send(UPGRADE + b"\x81\x05hello")
        assert (await visitor.response()).status == 200
        assert (await visitor.response()).status == 400
        assert b"hello" not in service.seen


async def test_a_switch_that_nobody_asked_for_is_an_error() -> None:
    async with Service(answering(SWITCH)) as service, tunnelled(service) as site:
        for request in (
            UPGRADE.replace(b"keep-alive, Upgrade", b"keep-alive"),
            UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
            UPGRADE.replace(b"Upgrade: Raw\r\n", b""),
        ):
            assert (await site.ask(request)).status == 502


async def test_an_upgraded_connection_is_counted_and_ended_with_the_relay() -> None:
    async def handle(wire: Wire) -> None:
        await wire.head()
        await wire.send(SWITCH)
        with pytest.raises(ConnectionResetError):
            await wire.rest()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(UPGRADE)
        await visitor.head()
        assert site.relay._http.active == 1
        await site.relay.close()
        await visitor.broken()
        await service.settled()
