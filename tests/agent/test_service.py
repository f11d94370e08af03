"""From a data channel to the local service, with the test as the relay."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.http_support import Service, Wire
from tests.support.addresses import free_port
from tests.support.scripted import Peer, ScriptedRelay, until
from tunnelkit.agent import Agent, AgentTunnel, Event
from tunnelkit.net.dial import DialError, LocalDialer
from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.messages import End, Error, Open, Opened, Ready, Request, Tunnel


class Site:
    """A tunnel whose relay is the test; ``channel`` is its free data channel."""

    def __init__(self, tunnel: AgentTunnel, control: Peer, channel: Peer, events: list[Event]) -> None:
        self.tunnel, self.control, self.channel, self.events = tunnel, control, channel, events

    @property
    def open_connections(self) -> int:
        return self.tunnel.traffic.open


@asynccontextmanager
async def tunnelled(target: Any, kind: Any = "tcp", **options: Any) -> AsyncIterator[Site]:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    events: list[Event] = []
    async with ScriptedRelay() as relay:
        agent = Agent(relay.url, on_event=events.append)
        async with relay.greeting(agent) as (control, _):
            opening = asyncio.create_task(agent.open(kind, target, **options))
            request = await control.hear(Request)
            await control.say(Tunnel(request.id, "tcp://relay.test:7", "relay.test", 7))
            yield Site(await opening, control, await relay.channel(), events)
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


async def hold(wire: Wire) -> None:
    """Take the connection and leave it to the test."""
    await asyncio.Event().wait()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with Service(hold) as service:
        yield service


class SlowDial:
    """Dials that are not complete at once, and go on when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.ended = 0
        self.may_go_on = asyncio.Event()
        dial = LocalDialer.dial

        async def slow(dialer: LocalDialer) -> socket.socket:
            self.begun += 1
            try:
                await self.may_go_on.wait()
                return await dial(dialer)
            finally:
                self.ended += 1

        monkeypatch.setattr(LocalDialer, "try_now", lambda _: None)
        monkeypatch.setattr(LocalDialer, "dial", slow)


async def test_both_directions_and_their_ends(service: Service) -> None:
    async with tunnelled(service.port) as site:
        channel = site.channel
        for number in (1, 2):
            await channel.say(Open(number, 1, "192.0.2.1:999"), channel.frame(b"up"))
            assert (await channel.hear(Opened)).stream == number
            wire = await service.connection(number - 1)
            assert await wire.exactly(2) == b"up"
            await wire.send(b"down")
            wire.shutdown()
            assert (await channel.hear(End)).bytes == 4
            await channel.say(channel.frame(b"more"), End(6))
            assert await wire.rest() == b"more"
            assert (await channel.hear(Ready)).stream == number
        assert channel.payload == b"downdown"
        traffic = site.tunnel.traffic
        assert (traffic.connections, traffic.open, traffic.failed) == (2, 0, 0)
        assert traffic.totals() == (12, 8)


async def test_what_comes_while_the_service_is_dialled_arrives_in_order(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowDial(monkeypatch)
    data = os.urandom(1_000_000)
    async with tunnelled(service.port) as site:
        channel = site.channel
        pieces = [channel.frame(data[i : i + 50_000]) for i in range(0, len(data), 50_000)]
        saying = asyncio.create_task(channel.say(Open(1, 1, ""), *pieces, End(len(data))))
        await until(lambda: slow.begun == 1)
        inside = next(iter(site.tunnel.agent._link.pool.channels.values()))
        await until(lambda: inside.paused)
        assert len(inside.user.data) < 3 * 65_536  # and no more, however much the visitor sends
        slow.may_go_on.set()
        wire = await service.connection()
        assert await wire.rest() == data
        await saying
        await channel.hear(Opened)


async def test_an_end_that_comes_while_the_service_is_dialled_is_passed_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowDial(monkeypatch)
    async with tunnelled(service.port) as site:
        await site.channel.say(Open(1, 1, ""), site.channel.frame(b"all"), End(3))
        inside = next(iter(site.tunnel.agent._link.pool.channels.values()))
        await until(lambda: slow.begun and inside.user.has_ended)
        slow.may_go_on.set()
        assert await (await service.connection()).rest() == b"all"


async def test_a_stream_that_is_aborted_while_the_service_is_dialled_ends_the_dial(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowDial(monkeypatch)
    async with tunnelled(service.port) as site:
        await site.channel.say(Open(1, 1, ""), site.channel.frame(b"x"))
        await until(lambda: slow.begun)
        site.channel.close()
        await until(lambda: slow.ended)
        assert not site.open_connections
    assert not service.connections


async def test_closing_the_tunnel_ends_connections_and_dials(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tunnelled(service.port) as site:
        await site.channel.say(Open(1, 1, ""))
        wire = await service.connection()
        await site.tunnel.close()
        await wire.broken()
        assert not site.open_connections


async def test_a_visitor_of_a_tunnel_that_is_not_there_is_refused_and_the_channel_free() -> None:
    async with tunnelled(free_port()) as site:
        await site.channel.say(Open(1, 99, ""))
        assert (await site.channel.hear(Error)).code == "no_tunnel"
        await site.channel.say(End(0))
        assert (await site.channel.hear(Ready)).stream == 1


async def test_a_service_that_is_not_there_refuses_the_visitor_and_says_so() -> None:
    port = free_port()
    async with tunnelled(port) as site:
        channel = site.channel
        for number in (1, 2):
            await channel.say(Open(number, 1, ""), channel.frame(b"thrown away"))
            error = await channel.hear(Error)
            assert (error.code, error.stream) == ("service_refused", number)
            await channel.say(End(len(b"thrown away")))
            await channel.hear(Ready)
        assert site.tunnel.traffic.failed == 2
        event = site.events[-1]
        assert (event.kind, event.code, event.tunnel) == ("service_error", "service_refused", 1)
        assert event.what == f"Nothing accepts connections at localhost:{port}"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("refused", "service_refused"),
        ("timeout", "service_timeout"),
        ("unreachable", "service_refused"),
        ("unresolved", "service_refused"),
    ],
)
async def test_every_way_in_which_a_dial_fails_has_its_words(
    monkeypatch: pytest.MonkeyPatch, kind: Any, code: str
) -> None:
    async def fail(dialer: LocalDialer) -> socket.socket:
        raise DialError(kind, dialer.endpoint, "why")

    monkeypatch.setattr(LocalDialer, "try_now", lambda _: None)
    monkeypatch.setattr(LocalDialer, "dial", fail)
    async with tunnelled("service.test:80") as site:
        await site.channel.say(Open(1, 1, ""))
        assert (await site.channel.hear(Error)).code == code
        await until(lambda: site.events[-1].kind == "service_error")
        assert "service.test:80" in site.events[-1].what


async def test_a_probe_is_answered_without_the_service() -> None:
    async with tunnelled(free_port()) as site:
        channel = site.channel
        await channel.say(Open(1, 1, "", probe="nonce"), End(0))
        await channel.hear(Opened)
        assert (await channel.hear(End)).bytes == 5
        await channel.hear(Ready)
        assert channel.payload == b"nonce"


async def test_a_probe_of_an_http_tunnel_is_answered_in_http() -> None:
    async with tunnelled(free_port(), "http") as site:
        channel = site.channel
        await channel.say(Open(1, 1, "", probe="nonce"), channel.frame(b"GET / HTTP/1.1\r\n\r\n"), End(18))
        await channel.hear(Ready)
        assert channel.payload.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")
        assert channel.payload.endswith(b"\r\n\r\nnonce")


@pytest.mark.parametrize(
    ("visitor", "ingress", "header"),
    [
        ("192.0.2.1:999", "198.51.100.7:80", b"PROXY TCP4 192.0.2.1 198.51.100.7 999 80\r\n"),
        ("[2001:db8::1]:999", "[2001:db8::2]:80", b"PROXY TCP6 2001:db8::1 2001:db8::2 999 80\r\n"),
        ("192.0.2.1:999", "", b"PROXY UNKNOWN\r\n"),  # an older relay
        ("somebody", "198.51.100.7:80", b"PROXY UNKNOWN\r\n"),
    ],
)
async def test_the_service_hears_who_the_visitor_is_before_its_first_byte(
    service: Service, visitor: str, ingress: str, header: bytes
) -> None:
    async with tunnelled(service.port, proxy_protocol=1) as site:
        await site.channel.say(Open(1, 1, visitor, ingress), site.channel.frame(b"hello"), End(5))
        assert await (await service.connection()).rest() == header + b"hello"


@pytest.mark.parametrize("target", [Endpoint("localhost", 1), "localhost:1", 1])
async def test_a_target_is_named_as_it_is_dialled(target: Any) -> None:
    async with tunnelled(target) as site:
        assert site.tunnel.target == Endpoint("localhost", 1)
