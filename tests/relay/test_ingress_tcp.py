"""Visitors of a TCP port, while the test is their agent: every way in which it can fail them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.http_support import Wire
from tests.support.scripted import Peer, ScriptedAgent, dial, until
from tunnelkit.net import pump
from tunnelkit.relay import Limits, Relay
from tunnelkit.relay.ingress_tcp import MAX_TRIES
from tunnelkit.relay.session import AgentSession
from tunnelkit.wire.messages import Cancel, End, Error, Need, Open, Opened, Ready, Request


class Site:
    """A TCP tunnel: its relay, the agent in the test's hand, and one free data channel."""

    def __init__(self, relay: Relay, agent: ScriptedAgent) -> None:
        self.relay = relay
        self.agent = agent
        self.wires: list[Wire] = []

    async def open(self) -> None:
        self.control = await self.agent.connect()
        tunnel, self.channel = await self.agent.tunnel(self.control, Request(1, "tcp"))
        self.port = tunnel.port
        self.session: AgentSession = self.relay._door.sessions[self.agent.session[0]]
        await until(lambda: self.session._idle)

    async def visit(self) -> Wire:
        wire = Wire(await dial("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def another(self) -> Peer:
        """The further data channel that the relay asks for."""
        await self.control.hear(Need)
        return await self.agent.channel(100 + len(self.session._channels))


@asynccontextmanager
async def tunnelled(**limits: Any) -> AsyncIterator[Site]:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with (
        Relay(listen="127.0.0.1:0", limits=Limits(**limits)) as relay,
        ScriptedAgent(relay.url) as agent,
    ):
        site = Site(relay, agent)
        await site.open()
        try:
            yield site
        finally:
            for wire in site.wires:
                wire.close()
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


async def test_a_stream_and_the_next_on_the_same_channel() -> None:
    async with tunnelled() as site:
        for _ in range(2):
            visitor = await site.visit()
            opened = await site.channel.hear(Open)
            assert opened.visitor == f"127.0.0.1:{visitor.port}"
            assert not opened.ingress
            await visitor.send(b"up")
            await site.channel.say(Opened(opened.stream), site.channel.frame(b"down"), End(4))
            assert await visitor.rest() == b"down"
            visitor.close()
            assert (await site.channel.hear(End)).bytes == 2
            await site.channel.say(Ready(opened.stream))
            await until(lambda: site.session._idle)
        assert site.channel.payload.endswith(b"upup")


async def test_a_channel_that_dies_before_it_opened_is_replaced_by_another() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        await site.channel.hear(Open)
        site.channel.close()
        channel = await site.another()
        opened = await channel.hear(Open)
        await channel.say(Opened(opened.stream), channel.frame(b"hello"))
        assert await visitor.exactly(5) == b"hello"
        await visitor.send(b"and back")
        assert await channel.hear_payload(8) == b"and back"


async def test_an_end_that_the_dead_channel_took_along_is_said_again() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        visitor.shutdown()
        assert (await site.channel.hear(End)).bytes == 0
        site.channel.close()
        channel = await site.another()
        opened = await channel.hear(Open)
        assert (await channel.hear(End)).bytes == 0
        await channel.say(Opened(opened.stream), channel.frame(b"bye"), End(3), Ready(opened.stream))
        assert await visitor.rest() == b"bye"


async def test_once_payload_was_sent_the_visitor_gets_the_error() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        await visitor.send(b"once only")
        await site.channel.hear_payload(len(b"once only"))
        site.channel.close()
        await visitor.broken()


async def test_a_channel_that_does_not_answer_in_time_is_replaced_so_often() -> None:
    async with tunnelled(open_timeout=0.05, ping_interval=0.2, ping_timeout=60.0) as site:
        visitor = await site.visit()
        channel = site.channel
        for number in range(MAX_TRIES):
            await channel.hear(Open)
            if number < MAX_TRIES - 1:
                channel = await site.another()
        await visitor.broken()
        await until(lambda: not site.session._channels)


async def test_what_a_visitor_says_while_no_channel_is_there_reaches_the_next_one() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        await site.channel.hear(Open)
        site.channel.close()
        await site.control.hear(Need)
        await visitor.send(b"not lost")
        visitor.shutdown()
        channel = await site.agent.channel(9)
        await channel.hear(Open)
        assert (await channel.hear(End)).bytes == 8
        assert channel.payload == b"not lost"


async def test_a_stream_that_the_agent_aborts_before_it_answers_is_not_tried_again() -> None:
    """The abort travels on another connection, and may be faster than the answer."""
    async with tunnelled() as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.control.say(Cancel(1, opened.stream, "reset", 0))
        await visitor.broken()
        assert not site.session._waiting


@pytest.fixture
def _resets_are_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "WATCH_INTERVAL", 0.01)


@pytest.mark.usefixtures("_resets_are_seen_soon")
async def test_a_visitor_that_left_meanwhile_leaves_the_other_channel_free() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        await site.channel.hear(Open)
        site.channel.close()
        await site.control.hear(Need)
        visitor.reset()
        await until(lambda: not site.relay._tcp._visits)
        channel = await site.agent.channel(9)
        await until(lambda: site.session._idle)
        await site.visit()
        await channel.hear(Open)


@pytest.mark.usefixtures("_resets_are_seen_soon")
async def test_a_visitor_that_left_while_no_other_channel_comes_ends_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tunnelled(channel_wait=0.3) as site:
        visitor = await site.visit()
        await site.channel.hear(Open)
        site.channel.close()
        await site.control.hear(Need)
        visitor.reset()
        await until(lambda: not site.relay._tcp._visits)
        assert site.relay._tcp.tasks  # which wait for a channel in vain
        await until(lambda: not site.relay._tcp.active)
    assert not caplog.records


async def test_a_service_that_refuses_resets_the_visitor_and_frees_the_channel() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.channel.say(Error(opened.stream, "service_refused", "nobody there"))
        await visitor.broken()
        await site.channel.hear(End)
        await site.channel.say(Ready(opened.stream))
        await until(lambda: site.session._idle)


def open_only(opened: Open, channel: Peer) -> list[Any]:
    return [Opened(opened.stream)]


def half_an_answer(opened: Open, channel: Peer) -> list[Any]:
    return [Opened(opened.stream), channel.frame(b"half")]


@pytest.mark.parametrize("said", [open_only, half_an_answer])
async def test_a_channel_that_dies_in_mid_stream_resets_the_visitor(
    said: Callable[[Open, Peer], list[Any]],
) -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        await visitor.send(b"up")
        opened = await site.channel.hear(Open)
        await site.channel.hear_payload(2)
        await site.channel.say(*said(opened, site.channel))
        site.channel.close()
        assert await visitor.broken() in (b"", b"half")


async def test_a_channel_that_dies_between_end_and_ready_is_not_used_again() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.channel.say(Opened(opened.stream), End(0))
        assert await visitor.ended()
        visitor.shutdown()
        await site.channel.hear(End)
        site.channel.close()
        await until(lambda: not site.session._channels)
        assert site.session.take() is None


async def test_a_visitor_without_a_channel_is_reset_after_a_while() -> None:
    async with tunnelled(channel_wait=0.05) as site:
        site.channel.close()
        await until(lambda: not site.session._channels)
        visitor = await site.visit()
        await visitor.broken()


async def test_one_visitor_too_many_is_reset_at_once_and_the_others_wait_on() -> None:
    async with tunnelled(waiting_per_session=3) as site:
        site.channel.close()
        await until(lambda: not site.session._channels)
        waiting = [await site.visit() for _ in range(3)]
        await until(lambda: len(site.session._waiting) == 3)
        await (await site.visit()).broken()
        channel = await site.agent.channel(9)
        opened = await channel.hear(Open)
        await channel.say(Opened(opened.stream), channel.frame(b"your turn"))
        (first,) = [wire for wire in waiting if opened.visitor.endswith(f":{wire.port}")]
        assert await first.exactly(9) == b"your turn"
        assert len(site.session._waiting) == 2


async def test_streams_live_on_when_the_control_connection_is_lost() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.channel.say(Opened(opened.stream))
        site.control.close()
        await until(lambda: not site.session.attached)
        await visitor.send(b"up")
        assert await site.channel.hear_payload(2) == b"up"
        await site.channel.say(site.channel.frame(b"down"), End(4))
        assert await visitor.rest() == b"down"


async def test_a_session_whose_time_is_over_resets_its_visitors() -> None:
    async with tunnelled(resume_window=0.1, ping_interval=0.2, ping_timeout=60.0) as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.channel.say(Opened(opened.stream))
        site.control.close()
        await visitor.broken()
        await until(lambda: not site.relay._door.sessions)


async def test_closing_the_relay_resets_visitors_that_are_open_and_those_that_wait() -> None:
    async with tunnelled() as site:
        visitor = await site.visit()
        opened = await site.channel.hear(Open)
        await site.channel.say(Opened(opened.stream))
        waiting = await site.visit()
        await site.control.hear(Need)
        await site.relay.close()
        await visitor.broken()
        await waiting.broken()
