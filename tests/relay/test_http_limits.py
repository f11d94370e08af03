"""How large a head may be, and how long a visitor and a service may take."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.http_support import GET, OK, Service, Wire, answering, silent, tunnelled
from tunnelkit.relay.limits import Limits
from tunnelkit.wire.http_head import MAX_FIELDS, MAX_HEAD

CLOCK = {"ping_interval": 0.2}  # the relay looks at its clocks four times as often
UPLOAD = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000\r\n\r\n"


def padded(size: int) -> bytes:
    """A request whose head has ``size`` bytes."""
    return GET[:-2] + b"X: " + b"x" * (size - len(GET) - 5) + b"\r\n\r\n"


async def test_heads_up_to_the_limit_are_accepted() -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for _ in range(2):
            request = padded(MAX_HEAD)
            assert len(request) == MAX_HEAD
            assert (await visitor.ask(request)).status == 200
        fields = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_FIELDS - 1))
        assert (await visitor.ask(GET[:-2] + fields + b"\r\n")).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        padded(MAX_HEAD + 1),
        padded(MAX_HEAD + 100_000),
        b"GET /" + b"x" * MAX_HEAD,
        GET[:-2] + b"X: y\r\n" * 20_000,
        GET[:-2] + b"X: y\r\n" * MAX_FIELDS + b"\r\n",
    ],
    ids=["one byte over", "far over", "request line without an end", "fields without an end", "101 fields"],
)
async def test_larger_heads_are_refused(request_: bytes) -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(request_)
        answer = await visitor.response()
        assert (answer.status, answer[b"Connection"]) == (431, b"close")
        assert await visitor.ended()
        assert not service.connections


async def test_a_large_head_in_small_pieces_does_not_occupy_the_relay() -> None:
    """What was looked through is not looked through again with every piece."""
    request = padded(MAX_HEAD)
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for start in range(0, len(request), 16):
            await visitor.send(request[start : start + 16])
            await asyncio.sleep(0)
        assert (await visitor.response()).status == 200


async def test_blank_lines_before_a_request_are_skipped() -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        assert (await visitor.ask(b"\r\n" + GET)).status == 200
        for byte in b"\r\n" + GET:
            await visitor.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await visitor.response()).status == 200


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
async def test_a_head_that_takes_too_long_is_refused_however_it_trickles(before: bytes) -> None:
    async def trickle() -> None:
        for byte in padded(10_000):
            await visitor.send(bytes([byte]))
            await asyncio.sleep(0.02)

    limits = Limits(head_timeout=0.3, **CLOCK)
    async with Service(answering(OK)) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        if before:
            await visitor.ask(before)
        trickling = asyncio.create_task(trickle())
        answer = await visitor.response()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (408, b"head_timeout")
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
        assert await visitor.ended()
        assert service.seen.count(b"GET") == (1 if before else 0)


async def test_a_visitor_that_says_nothing_is_closed_without_a_word() -> None:
    limits = Limits(head_timeout=0.1, idle_timeout=60, **CLOCK)
    async with Service(answering(OK)) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        assert await visitor.ended()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    limits = Limits(head_timeout=60, idle_timeout=0.1, **CLOCK)
    async with Service(answering(OK)) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        await visitor.ask()
        assert await visitor.ended()


async def test_a_service_that_does_not_answer_in_time_is_given_up() -> None:
    limits = Limits(response_timeout=0.2, **CLOCK)
    async with Service(silent) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        answer = await visitor.ask()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (504, b"service_timeout")
        with pytest.raises(ConnectionResetError):
            await service.connections[0].rest()


async def test_an_upload_that_goes_on_may_take_longer_than_an_answer() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)

    limits = Limits(response_timeout=0.2, **CLOCK)
    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        await visitor.send(UPLOAD)
        for _ in range(20):
            await visitor.send(bytes(50))
            await asyncio.sleep(0.03)
        assert (await visitor.response()).status == 200


async def test_an_upload_that_stops_is_given_up() -> None:
    limits = Limits(response_timeout=0.2, **CLOCK)
    async with Service(silent) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        await visitor.send(UPLOAD + bytes(500))
        answer = await visitor.response()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (408, b"body_timeout")
        with pytest.raises(ConnectionResetError):
            await service.connections[0].rest()


async def test_an_answer_that_has_begun_may_take_as_long_as_it_likes() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK[:-1])
        await asyncio.sleep(0.5)
        await wire.send(OK[-1:])

    limits = Limits(response_timeout=0.1, idle_timeout=0.1, head_timeout=0.1, **CLOCK)
    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        assert (await site.ask()).body == b"ok"
