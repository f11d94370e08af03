"""The agent's side of the protocol, with the test as the relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.support.addresses import free_port
from tests.support.scripted import PATIENCE, Peer, ScriptedRelay, until
from tunnelkit import errors
from tunnelkit.agent import Agent, AgentTunnel, Event
from tunnelkit.agent import agent as agent_module
from tunnelkit.agent import session as module
from tunnelkit.wire.frames import Opcode
from tunnelkit.wire.messages import (
    Close,
    Goodbye,
    Hello,
    Message,
    Need,
    Notice,
    Refused,
    Replaced,
    Request,
    Tunnel,
    Welcome,
)

TARGET = "127.0.0.1:9"  # nobody is dialled here


@pytest.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    async with ScriptedRelay() as relay:
        yield relay


class Site:
    """An agent that is connected to the test."""

    def __init__(self, relay: ScriptedRelay, agent: Agent, control: Peer, events: list[Event]) -> None:
        self.relay, self.agent, self.control, self.events = relay, agent, control, events

    async def tunnel(self, kind: Any = "tcp", **options: Any) -> AgentTunnel:
        """One more tunnel, which is up."""
        opening = asyncio.create_task(self.agent.open(kind, TARGET, **options))
        request = await self.control.hear(Request)
        await self.control.say(up(request))
        return await opening

    async def cut(self) -> None:
        """The control connection is lost."""
        self.control.close()
        await self.heard("disconnected")

    async def back(self, *, resumed: bool) -> Hello:
        """The agent connects again; its hello."""
        self.control, hello = await self.relay.greet(resumed=resumed)
        return hello

    async def heard(self, kind: str, code: str | None = None) -> Event:
        """The event of that kind, waited for."""

        def found() -> list[Event]:
            return [event for event in self.events if event.kind == kind and code in (None, event.code)]

        await until(found)
        return found()[-1]


def up(request: Request, port: int = 7000) -> Tunnel:
    """The relay's consent."""
    port = request.port or port
    return Tunnel(request.id, f"tcp://relay.test:{port}", "relay.test", port, request.name or "given")


@asynccontextmanager
async def connected(relay: ScriptedRelay, **terms: Any) -> AsyncIterator[Site]:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    events: list[Event] = []
    agent = Agent(relay.url, token="hush", identity="laptop", on_event=events.append)
    async with relay.greeting(agent, **terms) as (control, _):
        yield Site(relay, agent, control, events)
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


# --- coming in ----------------------------------------------------------------------------------


async def test_an_agent_says_who_it_is_and_has_a_channel_ready(relay: ScriptedRelay) -> None:
    agent = Agent(relay.url, token="hush", identity="laptop")
    async with relay.greeting(agent) as (_, hello):
        assert (hello.agent, hello.session, hello.secret) == ("laptop", "", "")
        await relay.channel()
        control, channel = relay.handshakes
        assert b"\r\nAuthorization: Bearer hush\r\n" in control
        assert b"\r\nAuthorization: Bearer hush\r\n" in channel
        assert b"\r\nX-Tunnelkit-Session: session:secret:1\r\n" in channel


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Refused("limit", "Full"), errors.LimitError),
        (Refused("auth_failed", "No"), errors.AuthError),
        (b"{", errors.RelayUnreachableError),
        (b'{"type":"welcome"}', errors.RelayUnreachableError),
        (None, errors.RelayUnreachableError),
    ],
    ids=["full", "not allowed", "nonsense", "half a welcome", "hangs up"],
)
async def test_a_relay_that_does_not_greet_is_an_error(
    relay: ScriptedRelay, answer: Message | bytes | None, error: type[Exception]
) -> None:
    starting = asyncio.create_task(Agent(relay.url).start())
    control = await relay.control()
    await control.hear(Hello)
    if answer is None:
        control.close()
    else:
        await control.say(control.frame(answer, Opcode.TEXT) if isinstance(answer, bytes) else answer)
    with pytest.raises(error):
        await asyncio.wait_for(starting, PATIENCE)


async def test_a_relay_that_says_nothing_is_given_up(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WELCOME_TIMEOUT", 0.05)
    with pytest.raises(errors.RelayUnreachableError, match="did not greet"):
        await Agent(relay.url).start()


async def test_as_many_channels_come_as_are_needed(relay: ScriptedRelay) -> None:
    async with connected(relay, max_channels=4) as site:
        await relay.channel()
        await site.control.say(Need(2), Need(100))
        for _ in range(3):
            await relay.channel()
        pool = site.agent._link.pool
        await until(lambda: len(pool.channels) == 4 and not pool._dialling)


# --- tunnels ------------------------------------------------------------------------------------


async def test_a_tunnel_is_what_the_relay_says(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        opening = asyncio.create_task(site.agent.open("http", 8000, name="App", host_header="rewrite"))
        request = await site.control.hear(Request)
        assert request == Request(1, "http", "app", 0, "localhost:8000")
        answer = Tunnel(1, "http://app.test", "app.test", 80, "app", ("No DNS",))
        await site.control.say(answer)
        tunnel = await opening
        assert (tunnel.url, tunnel.host, tunnel.port) == ("http://app.test", "app.test", 80)
        assert tunnel.warnings == ("No DNS",)
        assert [event.kind for event in site.events] == ["connected", "tunnel_up", "warning"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Refused("name_taken", "Taken", 1), errors.NameTakenError),
        (Refused("timeout", "The probe", 1), errors.TunnelTimeoutError),
        (Refused("a_newer_code", "Who knows", 1), errors.RefusedError),
    ],
)
async def test_a_tunnel_that_is_refused_is_an_error_with_its_code(
    relay: ScriptedRelay, answer: Refused, error: type[Exception]
) -> None:
    async with connected(relay) as site:
        opening = asyncio.create_task(site.agent.open("tcp", TARGET))
        await site.control.hear(Request)
        await site.control.say(answer)
        with pytest.raises(error):
            await opening
        assert not site.agent.tunnels


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"kind": "udp"}, errors.InvalidError),
        ({"kind": "tcp", "proxy_protocol": 3}, errors.InvalidError),
        ({"kind": "http", "proxy_protocol": 1}, errors.InvalidError),
        ({"kind": "tcp", "remote_port": 70_000}, errors.InvalidPortError),
        ({"kind": "http", "name": "no name"}, errors.InvalidNameError),
        ({"kind": "http", "name": "www"}, errors.InvalidNameError),
        ({"kind": "tcp", "target": "localhost"}, errors.InvalidTargetError),
        ({"kind": "tcp", "target": 0}, errors.InvalidPortError),
        ({"kind": "tcp", "target": "abc"}, errors.InvalidTargetError),
    ],
)
async def test_a_tunnel_that_can_never_be_is_refused_here(
    relay: ScriptedRelay, wish: dict[str, Any], error: type[Exception]
) -> None:
    async with connected(relay) as site:
        with pytest.raises(error):
            await site.agent.open(**{"target": TARGET, **wish})
        assert not site.agent.tunnels
        await site.tunnel()


async def test_a_relay_that_does_not_answer_in_time_is_told_to_forget_it(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        with pytest.raises(errors.TunnelTimeoutError):
            await site.agent.open("tcp", TARGET, timeout=0.05)
        assert (await site.control.hear(Close)).id == 1
        await site.control.say(Tunnel(1, "tcp://late.test:7", "late.test", 7))
        assert (await site.control.hear(Close)).id == 1


async def test_a_closed_tunnel_is_closed_once(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        first, second = await site.tunnel(), await site.tunnel()
        await first.close()
        await first.close()
        await second.close()
        assert [(await site.control.hear(Close)).id for _ in range(2)] == [1, 2]


async def test_notices_are_passed_on(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.control.say(Notice(1, "host_refused", "Try --host-header rewrite"), Goodbye())
        notice = await site.heard("notice", "host_refused")
        assert (notice.what, notice.tunnel) == ("Try --host-header rewrite", 1)
        await site.heard("notice", "relay_closing")


# --- coming back --------------------------------------------------------------------------------


async def test_a_lost_session_is_taken_up_again_without_asking_for_what_is_up(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.tunnel()
        channel = await relay.channel()
        await site.cut()
        hello = await site.back(resumed=True)
        assert (hello.session, hello.secret) == ("session", "secret")
        second = asyncio.create_task(site.agent.open("tcp", TARGET))
        assert (await site.control.hear(Request)).id == 2  # and not 1 before it
        await site.control.say(Tunnel(2, "tcp://relay.test:8", "relay.test", 8))
        await second
        assert len(site.agent._link.pool.channels) == 1
        channel.close()


async def test_a_session_that_is_gone_is_begun_anew_with_the_same_names_and_ports(
    relay: ScriptedRelay,
) -> None:
    async with connected(relay) as site:
        await site.tunnel("http")
        await site.tunnel()
        old = await relay.channel()
        await site.cut()
        await site.back(resumed=False)
        requests = [await site.control.hear(Request) for _ in range(2)]
        assert requests == [Request(1, "http", "given"), Request(2, "tcp", port=7000)]
        await old.end()
        await relay.channel()


async def test_a_tunnel_whose_answer_was_lost_is_asked_for_again(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        opening = asyncio.create_task(site.agent.open("tcp", TARGET))
        await site.control.hear(Request)
        await site.cut()
        await site.back(resumed=True)
        await site.control.say(up(await site.control.hear(Request)))
        await opening


async def test_a_tunnel_may_be_asked_for_while_the_agent_is_away(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.cut()
        opening = asyncio.create_task(site.agent.open("tcp", TARGET))
        await site.back(resumed=True)
        await site.control.say(up(await site.control.hear(Request)))
        await opening


async def test_a_tunnel_that_is_asked_for_in_the_moment_of_the_welcome_is_asked_for(
    relay: ScriptedRelay,
) -> None:
    async with connected(relay) as site:
        await site.cut()
        openings = []
        greeted = site.agent._greeted

        def greet(message: Welcome) -> None:
            greeted(message)
            openings.append(asyncio.create_task(site.agent.open("tcp", TARGET)))

        site.agent._greeted = greet  # type: ignore[method-assign]
        await site.back(resumed=True)
        await site.control.say(up(await site.control.hear(Request)))
        await openings[0]


async def test_a_tunnel_that_was_closed_meanwhile_is_closed_at_the_relay_too(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        tunnel = await site.tunnel()
        await site.cut()
        await tunnel.close()
        await site.back(resumed=True)
        assert (await site.control.hear(Close)).id == tunnel.number


async def test_a_chosen_port_that_is_taken_now_is_replaced_by_another(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        tunnel = await site.tunnel()
        await site.cut()
        await site.back(resumed=False)
        assert (await site.control.hear(Request)).port == 7000
        await site.control.say(Refused("port_taken", "Taken", 1))
        again = await site.control.hear(Request)
        assert again.port == 0
        await site.control.say(up(again, 7001))
        await until(lambda: tunnel.port == 7001)


async def test_a_port_that_was_asked_for_is_not_replaced(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        tunnel = await site.tunnel(remote_port=7000)
        await site.cut()
        await site.back(resumed=False)
        await site.control.hear(Request)
        await site.control.say(Refused("port_taken", "Taken", 1))
        with pytest.raises(errors.PortTakenError):
            await asyncio.wait_for(site.agent.wait(), PATIENCE)
        assert isinstance(tunnel.error, errors.PortTakenError)
        await site.heard("tunnel_lost", "port_taken")


async def test_a_tunnel_that_was_up_is_asked_for_until_its_probe_comes_round(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "CAP", 0.01)
    async with connected(relay) as site:
        tunnel = await site.tunnel()
        await site.cut()
        await site.back(resumed=False)
        for _ in range(3):
            request = await site.control.hear(Request)
            await site.control.say(Refused("timeout", "The probe", request.id))
        await site.control.say(up(await site.control.hear(Request)))
        await until(lambda: tunnel.up)


async def test_a_tunnel_that_a_newer_session_has_is_not_asked_for_again(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        first = await site.tunnel()
        second = await site.tunnel()
        await site.control.say(Replaced(first.number))
        lost = await site.heard("tunnel_lost", "replaced")
        assert lost.tunnel == first.number
        await site.cut()
        await site.back(resumed=False)
        assert (await site.control.hear(Request)).id == second.number
        await site.control.say(Replaced(second.number))
        with pytest.raises(errors.ReplacedError):
            await asyncio.wait_for(site.agent.wait(), PATIENCE)


async def test_a_relay_that_breaks_the_protocol_is_left_and_tried_again(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.control.say(Welcome("another", "secret"))
        assert await site.control.end() == 1002
        assert (await site.heard("disconnected")).code == "protocol"
        await site.back(resumed=True)


async def test_a_relay_that_greets_only_to_hang_up_is_not_hammered(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "backoff", lambda attempt, _: asked.append(attempt) or 0.001 * attempt)
    async with connected(relay) as site:
        for _ in range(6):
            site.control.close()
            await site.back(resumed=True)
        assert asked == [0, 1, 2, 3, 4, 5]  # as if it had been away all the time
        monkeypatch.setattr(module, "STEADY", 0.0)
        site.control.close()
        await site.back(resumed=True)
        assert asked[-1] == 0


async def test_a_relay_that_is_away_is_tried_at_once_and_then_after_growing_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def backoff(attempt: int, since: float) -> float:
        asked.append(attempt)
        return 0.001

    monkeypatch.setattr(module, "backoff", backoff)
    async with AsyncExitStack() as stack:
        async with ScriptedRelay() as relay:
            site = await stack.enter_async_context(connected(relay))
        await until(lambda: len(asked) > 5)
        assert asked[:5] == [0, 1, 2, 3, 4]
        event = await site.heard("retrying", "relay_unreachable")
        assert "cannot be reached" in event.what


# --- the end ------------------------------------------------------------------------------------


async def test_an_agent_that_is_closed_says_goodbye_and_is_over(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.tunnel()
        waiting = asyncio.create_task(site.agent.wait())
        await asyncio.gather(site.agent.close(), site.agent.close())
        await asyncio.wait_for(waiting, PATIENCE)
        await site.control.hear(Goodbye)
        assert await site.control.end() == 1000
        with pytest.raises(errors.RelayError, match="closed"):
            await site.agent.open("tcp", TARGET)


async def test_closing_the_agent_ends_the_wait_for_a_tunnel(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        opening = asyncio.create_task(site.agent.open("tcp", TARGET))
        await site.control.hear(Request)
        await site.agent.close()
        with pytest.raises(errors.RelayError, match="closed"):
            await asyncio.wait_for(opening, PATIENCE)


async def test_closing_while_the_agent_is_away_does_not_wait_for_the_relay(relay: ScriptedRelay) -> None:
    async with connected(relay) as site:
        await site.cut()
        await asyncio.wait_for(site.agent.close(grace=60.0), PATIENCE)


async def test_an_agent_that_never_came_up_may_be_closed() -> None:
    agent = Agent(f"ws://127.0.0.1:{free_port()}")
    await agent.close()
    with pytest.raises(errors.RelayUnreachableError):
        await agent.start()
    await agent.close()
