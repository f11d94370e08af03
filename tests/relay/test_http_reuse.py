"""Which connection to the service carries a request, and what happens when it closes under one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.e2e.http_support import GET, OK, Service, Wire, answering, tunnelled, until
from tunnelkit.agent.service import LocalService
from tunnelkit.relay import ingress_http
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.probe import Prober
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.transport.channels import AcceptorChannel
from tunnelkit.wire.messages import Open

POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nonce"


def closing(close: Callable[[Wire], None]):
    """Answers the first request of the first connection, and closes it when the second arrives."""
    first = True

    async def handle(wire: Wire) -> None:
        nonlocal first
        if first:
            first = False
            await wire.request()
            await wire.send(OK)
            await wire.request()
            close(wire)
        else:
            await answering(OK)(wire)

    return handle


CLOSES = pytest.mark.parametrize("close", [Wire.close, Wire.reset], ids=["closed", "reset"])


@CLOSES
async def test_a_repeatable_request_is_repeated_once_on_a_fresh_connection(close) -> None:
    async with Service(closing(close)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.ask()
        assert (await visitor.ask()).body == b"ok"
        assert [bytes(wire.seen).count(b"GET / ") for wire in service.connections] == [2, 1]


@CLOSES
async def test_what_is_not_repeatable_is_not_sent_twice(close) -> None:
    async with Service(closing(close)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.ask()
        answer = await visitor.ask(POST)
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (502, b"service_closed")
        assert service.seen.count(b"once") == 1


async def test_a_request_is_not_repeated_for_ever() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        if wire is service.connections[0]:
            await wire.send(OK)
            await wire.request()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.ask()
        assert (await visitor.ask()).status == 502
        assert [bytes(wire.seen).count(b"GET / ") for wire in service.connections] == [2, 1]


async def test_nothing_is_repeated_once_an_answer_has_begun() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()
        await wire.send(OK[:20])

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.ask()
        answer = await visitor.ask()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (502, b"service_closed")
        assert len(service.connections) == 1


@pytest.mark.parametrize(("request_", "tries"), [(GET, 2), (POST, 1)], ids=["repeatable", "not"])
async def test_a_channel_that_dies_before_it_has_answered(
    request_: bytes, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(self: LocalService, channel: AcceptorChannel, request: Open) -> None:
        visits.append(request.stream)
        channel.lost("test")

    visits: list[int] = []
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        monkeypatch.setattr(LocalService, "visit", visit)
        answer = await site.ask(request_)
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (503, b"agent_away")
        assert len(visits) == tries


async def test_what_is_not_repeatable_avoids_connections_that_have_rested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.ask()
        await visitor.ask(POST)  # at once: the connection was used a moment ago
        assert len(service.connections) == 1
        monkeypatch.setattr(ingress_http, "REUSE_AT_ONCE", 0.0)
        await visitor.ask(POST)
        assert len(service.connections) == 2
        await visitor.ask()
        assert len(service.connections) == 2


async def test_a_connection_that_the_service_closed_while_it_rested_is_not_used() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for number in range(3):
            assert (await visitor.ask(POST)).status == 200
            await until(lambda: not site.upstreams)
            assert len(service.connections) == number + 1


@pytest.mark.parametrize("later", [False, True])
async def test_an_answer_that_nobody_asked_for_reaches_nobody(later: bool) -> None:
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

    async def handle(wire: Wire) -> None:
        await wire.request()
        if wire is not service.connections[0]:
            await wire.send(OK)
            return
        await wire.send(OK if later else OK + stray)
        await answered.wait()
        await wire.send(stray if later else b"")
        assert await wire.ended()

    answered = asyncio.Event()
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        assert (await visitor.ask()).body == b"ok"
        answered.set()
        await until(lambda: not site.upstreams)
        assert (await visitor.ask()).body == b"ok"
        assert len(service.connections) == 2


async def test_a_connection_that_rests_too_long_is_given_up() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        assert await wire.ended()

    limits = Limits(upstream_idle=0.1, ping_interval=0.4)
    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        await site.ask()
        await service.settled()


async def test_a_probe_does_not_take_the_way_of_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor may be faster than the probe, and leave a connection to the service behind."""
    probe = Prober.probe

    async def late(self: Prober, tunnel: RelayTunnel, listener: tuple[str, int]) -> None:
        with socket.create_connection(listener) as sock:
            assert (await Wire(sock).ask()).status == 200
        assert tunnel.upstreams
        await probe(self, tunnel, listener)

    monkeypatch.setattr(Prober, "probe", late)
    async with Service(answering(OK)) as service, tunnelled(service):
        assert len(service.connections) == 1


# --- channels -----------------------------------------------------------------------------------


async def test_resting_connections_yield_their_channels_to_those_who_wait() -> None:
    limits = Limits(channels_per_session=2, channel_wait=5)
    async with Service(answering(OK)) as service, Service(answering(OK)) as other:
        async with tunnelled(service, limits=limits) as site:
            second = await site.agent.open("http", other.port, name="other")
            two = [await site.visit() for _ in range(2)]
            await asyncio.gather(*(visitor.ask() for visitor in two))
            assert len(site.upstreams) == len(service.connections) == 2
            visitor = await site.visit((second.host, second.port))
            assert (await visitor.ask()).status == 200
            assert len(other.connections) == 1


async def test_more_visitors_than_channels_are_all_served() -> None:
    limits = Limits(channels_per_session=2)

    async def handle(wire: Wire) -> None:
        while True:
            await wire.request()
            await asyncio.sleep(0)
            await wire.send(OK)

    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        visitors = [await site.visit() for _ in range(30)]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(visitor.ask(POST) for visitor in visitors))
        assert {answer.status for answer in answers} == {200}


async def test_whoever_waits_too_long_for_a_channel_is_told() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await release.wait()
        await wire.send(OK)

    release = asyncio.Event()
    limits = Limits(channels_per_session=1, channel_wait=0.2)
    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await service.connection()
        answer = await site.ask()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (503, b"agent_away")
        release.set()
        assert (await visitor.response()).status == 200


async def test_no_more_visitors_wait_than_may() -> None:
    limits = Limits(channels_per_session=1, waiting_per_session=0)

    async def handle(wire: Wire) -> None:
        await wire.rest()

    async with Service(handle) as service, tunnelled(service, limits=limits) as site:
        await (await site.visit()).send(GET)
        await service.connection()
        answer = await site.ask()
        assert (answer.status, answer[b"Tunnelkit-Error"]) == (503, b"limit")
