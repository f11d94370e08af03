"""Whoever dies, the other side sees a failure: never a clean end of half a message, never nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.e2e.http_support import GET, OK, SPLICES, Handler, Service, Wire, answering, tunnelled, until
from tests.support import program, run

BEGINNINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n",
    "midst of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nbeginning",
    "in trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n0\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nbeginning",
}
CUT_OFF = [
    pytest.param(name, close, id=f"{name}, {close.__name__}")
    for name in BEGINNINGS
    for close in (Wire.close, Wire.reset)
    if (name, close) != ("until the end", Wire.close)  # which is how such a body ends
]


def dying(beginning: bytes, close: Callable[[Wire], None], passed: asyncio.Event) -> Handler:
    """Begins an answer, and closes once it has passed."""

    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(beginning)
        await passed.wait()
        close(wire)

    return handle


@pytest.mark.parametrize(("name", "close"), CUT_OFF)
async def test_a_service_that_dies_under_its_answer_leaves_it_broken(name: str, close) -> None:
    passed = asyncio.Event()
    async with Service(dying(BEGINNINGS[name], close, passed)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.until(b"beginning")
        passed.set()
        await visitor.broken()


@pytest.mark.needs("curl")
@pytest.mark.parametrize(("name", "close"), CUT_OFF)
async def test_curl_sees_that_an_answer_is_not_whole(name: str, close) -> None:
    """18: partial file, 56: failure in receiving data (curl(1))."""
    passed = asyncio.Event()
    passed.set()
    async with Service(dying(BEGINNINGS[name], close, passed)) as service, tunnelled(service) as site:
        result = await run(program("curl"), "-sS", site.url)
        assert result.returncode in (18, 56)


async def test_what_came_before_a_failure_is_delivered_before_it() -> None:
    """To a visitor that reads slowly as well: what is on its way is not dropped."""
    body = random.Random(1).randbytes(200_000)

    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + body)

    async with Service(handle) as service, tunnelled(service) as site:
        visitor, inside = await site.slow_visit()
        await visitor.send(GET)
        await visitor.head()
        received = await visitor.slowly(lambda: inside._upstream is None)
        assert inside._pending
        assert received + await visitor.exactly(len(body) - len(received)) == body
        assert await visitor.broken() == b""


async def test_an_answer_with_chunks_out_of_order_is_broken_off() -> None:
    passed = asyncio.Event()

    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(BEGINNINGS["chunks"])
        await passed.wait()
        await wire.send(b"nonsense\r\n")
        await wire.rest()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.until(b"beginning\r\n")
        passed.set()
        assert await visitor.broken() == b""


async def test_an_agent_that_dies_under_an_answer_leaves_it_broken() -> None:
    passed = asyncio.Event()
    async with (
        Service(dying(BEGINNINGS["length"], Wire.close, passed)) as service,
        tunnelled(service) as site,
    ):
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.until(b"beginning")
        await site.agent.close()
        await visitor.broken()


async def test_a_relay_that_is_closed_breaks_off_what_runs() -> None:
    passed = asyncio.Event()
    async with (
        Service(dying(BEGINNINGS["length"], Wire.close, passed)) as service,
        tunnelled(service) as site,
    ):
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.until(b"beginning")
        await site.relay.close()
        await visitor.broken()


async def test_a_relay_that_drains_finishes_what_runs_and_closes_what_is_idle() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await finish.wait()
        await wire.send(OK)
        await wire.rest()

    finish = asyncio.Event()
    async with Service(handle) as service, tunnelled(service) as site:
        idle, busy = await site.visit(), await site.visit()
        await busy.send(GET)
        await service.connection()
        closing = asyncio.create_task(site.relay.close(grace=10))
        assert await idle.ended()
        finish.set()
        answer = await busy.response()
        assert (answer.body, answer[b"Connection"]) == (b"ok", b"close")
        assert await busy.ended()
        busy.close()
        await closing


# --- visitors that go ---------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
async def test_a_visitor_that_leaves_in_the_midst_of_an_answer_ends_it_at_the_service(leave) -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(ConnectionError):
            await wire.send(bytes(100_000_000))

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.exactly(100_000)
        leave(visitor)
        await service.settled()


async def test_a_visitor_that_leaves_in_the_midst_of_its_request_ends_that_at_the_service() -> None:
    async def handle(wire: Wire) -> None:
        await wire.until(b"beginning")
        begun.set()
        with pytest.raises(ConnectionResetError):
            await wire.rest()

    begun = asyncio.Event()
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000\r\n\r\nbeginning")
        await begun.wait()
        visitor.close()
        await service.settled()


@pytest.mark.parametrize("splice", SPLICES)
async def test_a_visitor_that_resets_while_everything_is_blocked(splice: bool) -> None:
    """The upload fills every buffer on its way; nothing but the reset tells that it is over."""

    async def handle(wire: Wire) -> None:
        await wire.until(b"\r\n\r\n")
        await gone.wait()
        with pytest.raises(ConnectionResetError):
            await wire.rest()

    gone = asyncio.Event()
    async with Service(handle) as service, tunnelled(service, splice=splice) as site:
        visitor = await site.visit()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 90000000\r\n\r\n")
        sending = asyncio.create_task(visitor.send(bytes(90_000_000)))
        await until(lambda: any(not one._reading for one in site.relay._http._visitors))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        visitor.reset()
        await until(lambda: not site.relay._http._visitors)
        gone.set()
        await service.settled()


# --- noise --------------------------------------------------------------------------------------


async def test_a_million_random_bytes() -> None:
    noise = random.Random(7)
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        for size in [1_000_000] + [5_000] * 50 + [1] * 50:
            visitor = await site.visit()
            sending = asyncio.create_task(visitor.send(noise.randbytes(size)))
            await asyncio.gather(sending, return_exceptions=True)
            if size > 1:
                assert (await visitor.response()).status == 400
            visitor.close()
        assert not service.connections
        assert (await site.ask()).status == 200
        await until(lambda: not site.relay._http._visitors)


async def test_requests_with_random_changes_do_no_harm() -> None:
    """Each gets an answer or an error, and the service gets nothing but whole requests for itself."""
    chance = random.Random(11)
    good = (
        b"POST /a?b=c HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        for _ in range(300):
            bad = bytearray(good)
            for _ in range(chance.randint(1, 3)):
                bad[chance.randrange(len(bad))] = chance.choice(b"\r\n\t \0:;,/0aZ\xff")
            visitor = await site.visit()
            await visitor.send(bytes(bad))
            visitor.shutdown()
            answer = await visitor.rest()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            visitor.close()
        assert (await site.ask()).status == 200
