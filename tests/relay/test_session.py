"""A session's channels and clocks: who gets a channel, who waits how long, what ends when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.chain import tcp_pair
from tests.support.scripted import Peer, until
from tunnelkit.errors import LimitError
from tunnelkit.net.pump import Pump
from tunnelkit.relay.auth import Identity
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.session import AgentAwayError, AgentSession
from tunnelkit.transport.channels import OpenerChannel
from tunnelkit.wire.messages import Message, Need, Open, Opened, Replaced


class Control:
    """A control connection that only takes notes."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed = False
        self.silent = 0

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def close(self, reason: str = "") -> None:
        self.closed = True

    @property
    def needed(self) -> int:
        """Channels asked for so far."""
        return sum(message.n for message in self.sent if isinstance(message, Need))


class User:
    """Takes notes of what happens to its stream."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def payload(self, data: object) -> None: ...
    def ended(self) -> None: ...
    def drained(self) -> None: ...

    def refused(self, code: str, what: str) -> None:
        self.codes.append(code)

    def aborted(self, code: str) -> None:
        self.codes.append(code)


class Bench:
    """A session with the test as its agent."""

    def __init__(self, **limits: Any) -> None:
        self.pump = Pump(asyncio.get_running_loop())
        self.gone: list[AgentSession] = []
        self.limits = Limits(**limits)
        self.session = AgentSession(self.pump, Identity("alice"), "laptop", self.limits, self.gone.append)
        self.control = Control()
        self.session.attach(self.control)
        self.peers: list[Peer] = []

    def channel(self, *, free: bool = True) -> OpenerChannel:
        """One more data channel."""
        sock, end = tcp_pair()
        self.peers.append(Peer(end, client=True))
        try:
            channel = self.session.add_channel(sock, len(self.peers))
        except LimitError:
            sock.close()
            raise
        channel.start()
        if free:
            self.session.channel_free(channel)
        return channel

    def tick(self, later: float = 0.0, *, liveness: bool = False) -> None:
        self.session.tick(self.pump.loop.time() + later, liveness=liveness)

    async def waiting(self, count: int) -> list[asyncio.Task[OpenerChannel]]:
        """``count`` visitors that wait for a channel."""
        tasks = [asyncio.create_task(self.session.acquire()) for _ in range(count)]
        await until(lambda: len(self.session._waiting) == count)
        return tasks

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.end()
        for peer in self.peers:
            peer.close()
        self.pump.close()


async def test_the_channel_used_last_is_used_next() -> None:
    async with Bench() as bench:
        first, second = bench.channel(), bench.channel()
        assert await bench.session.acquire() is second
        assert await bench.session.acquire() is first
        bench.session.channel_free(second)
        assert bench.session.take() is second
        assert bench.session.take() is None
        assert not bench.control.sent


async def test_each_visitor_that_waits_gets_a_channel_and_no_more_are_asked_for() -> None:
    async with Bench() as bench:
        tasks = await bench.waiting(3)
        assert bench.control.needed == 3
        channels = [bench.channel() for _ in tasks]
        assert await asyncio.gather(*tasks) == channels
        assert bench.control.needed == 3


async def test_no_more_channels_are_asked_for_than_a_session_may_have() -> None:
    async with Bench(channels_per_session=2) as bench:
        bench.channel(free=False)
        tasks = await bench.waiting(3)
        assert bench.control.needed == 1
        channel = bench.channel()
        assert await tasks[0] is channel
        assert bench.session.full
        assert bench.session.wanting
        for task in tasks[1:]:
            task.cancel()


async def test_more_channels_than_allowed_are_refused_and_so_is_a_number_twice() -> None:
    async with Bench(channels_per_session=2) as bench:
        bench.channel()
        sock, end = tcp_pair()
        with sock, end, pytest.raises(LimitError, match="already has"):
            bench.session.add_channel(sock, 1)
        bench.channel()
        with pytest.raises(LimitError, match="at most 2"):
            bench.channel()


async def test_a_visitor_waits_for_a_channel_only_so_long() -> None:
    async with Bench(channel_wait=0.01) as bench:
        with pytest.raises(AgentAwayError):
            await bench.session.acquire()
        assert not bench.session._waiting


async def test_while_the_agent_is_away_a_visitor_waits_less() -> None:
    async with Bench(channel_wait=60.0, away_wait=0.01) as bench:
        bench.session.detach()
        async with asyncio.timeout(5):
            with pytest.raises(AgentAwayError):
                await bench.session.acquire()


async def test_who_waits_already_when_the_agent_leaves_waits_no_longer_than_others() -> None:
    async with Bench(channel_wait=60.0, away_wait=0.01) as bench:
        tasks = await bench.waiting(2)
        bench.session.detach()
        for task in tasks:
            with pytest.raises(AgentAwayError):
                await asyncio.wait_for(task, 5)
        assert not bench.session._waiting


async def test_an_agent_that_comes_back_in_time_finds_its_visitors_waiting() -> None:
    async with Bench(channel_wait=60.0, away_wait=0.01) as bench:
        (task,) = await bench.waiting(1)
        bench.session.detach()
        bench.session.attach(Control())
        await asyncio.sleep(0.03)  # longer than it might have stayed away
        assert not task.done()
        channel = bench.channel()
        assert await task is channel


async def test_one_visitor_too_many_is_turned_away_at_once() -> None:
    async with Bench() as bench:
        tasks = await bench.waiting(bench.limits.waiting_per_session)
        with pytest.raises(LimitError, match="Too many visitors"):
            await bench.session.acquire()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not bench.session._waiting


async def test_a_visitor_that_leaves_in_the_moment_its_channel_comes_leaves_it_to_the_next() -> None:
    async with Bench() as bench:
        (task,) = await bench.waiting(1)
        channel = bench.channel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bench.session.take() is channel


async def test_a_channel_that_ends_in_the_moment_it_is_free_is_given_to_nobody() -> None:
    async with Bench() as bench:
        (task,) = await bench.waiting(1)
        bench.channel().lost("reset")
        await asyncio.sleep(0)
        assert not task.done()
        channel = bench.channel()
        assert await task is channel


async def test_an_idle_channel_that_ends_is_forgotten() -> None:
    async with Bench() as bench:
        bench.channel()
        bench.peers[0].close()
        await until(lambda: not bench.session._channels)
        assert bench.session.take() is None


async def test_what_did_not_come_is_asked_for_again_but_not_while_others_come() -> None:
    async with Bench() as bench:
        tasks = await bench.waiting(4)
        bench.channel()
        bench.tick()
        assert bench.control.needed == 4  # the agent is at it
        bench.tick()
        assert bench.control.needed == 4 + 3
        for task in tasks:
            task.cancel()


async def test_idle_channels_go_after_a_while_but_one_stays_warm() -> None:
    async with Bench() as bench:
        channels = [bench.channel() for _ in range(4)]
        bench.tick(bench.limits.channel_idle - 1)
        assert not any(channel.closed for channel in channels)
        bench.tick(bench.limits.channel_idle + 1)
        assert [channel.closed for channel in channels] == [True, True, True, False]


async def test_an_open_that_nobody_answers_ends_its_channel_and_says_so() -> None:
    async with Bench() as bench:
        user = User()
        channel = bench.channel(free=False)
        bench.session.opening(channel)
        channel.open(Open(1, 1, ""), user)
        bench.tick(bench.limits.open_timeout - 1)
        assert not channel.closed
        bench.tick(bench.limits.open_timeout + 1)
        assert channel.closed
        assert user.codes == ["unanswered"]


async def test_an_open_that_was_answered_has_no_deadline_any_more() -> None:
    async with Bench() as bench:
        channel = bench.channel(free=False)
        bench.session.opening(channel)
        channel.open(Open(1, 1, ""), User())
        await bench.peers[0].say(Opened(1))
        await until(lambda: not bench.session._opening)
        bench.tick(bench.limits.open_timeout + 1)
        assert not channel.closed


async def test_a_channel_that_has_ended_does_not_stop_the_clock() -> None:
    async with Bench() as bench:
        channel = bench.channel(free=False)
        channel.lost("reset")
        bench.session.opening(channel)
        bench.tick(bench.limits.open_timeout + 1)
        assert not bench.session._opening


async def test_an_agent_that_is_away_has_a_minute_to_come_back() -> None:
    async with Bench() as bench:
        channel = bench.channel()
        bench.session.detach()
        bench.tick(bench.limits.resume_window - 1)
        assert not bench.gone
        assert not channel.closed  # what runs on it goes on
        bench.tick(bench.limits.resume_window + 1)
        assert bench.gone == [bench.session]
        assert channel.closed


async def test_an_agent_that_came_back_is_not_ended() -> None:
    async with Bench() as bench:
        bench.session.detach()
        bench.session.attach(Control())
        bench.tick(bench.limits.resume_window + 1)
        assert not bench.gone


async def test_an_agent_that_comes_back_is_asked_again_for_what_is_waited_for() -> None:
    async with Bench() as bench:
        (task,) = await bench.waiting(1)
        bench.session.detach()
        control = Control()
        bench.session.attach(control)
        bench.session.greeted()
        assert control.needed == 1
        task.cancel()


async def test_a_connection_that_takes_the_session_up_closes_the_one_before() -> None:
    async with Bench() as bench:
        bench.session.attach(Control())
        assert bench.control.closed


async def test_an_agent_hears_that_it_was_replaced_also_when_it_was_away() -> None:
    async with Bench() as bench:
        bench.session.detach()
        bench.session.replaced(3)
        control = Control()
        bench.session.attach(control)
        bench.session.greeted()
        assert control.sent == [Replaced(3)]


async def test_the_end_reaches_streams_and_visitors_and_is_told_once() -> None:
    async with Bench() as bench:
        user = User()
        channel = bench.channel(free=False)
        channel.open(Open(1, 1, ""), user)
        await bench.peers[0].say(Opened(1))
        await until(lambda: channel.state.name == "OPEN")
        (task,) = await bench.waiting(1)
        bench.session.end("relay_closed")
        bench.session.end("again")
        with pytest.raises(AgentAwayError):
            await task
        assert user.codes == ["relay_closed"]
        assert bench.gone == [bench.session]
        assert bench.control.closed
        with pytest.raises(AgentAwayError):
            await bench.session.acquire()


@pytest.mark.parametrize("wrong", ["", "x", "0" * 32, "\udcff"])
async def test_only_its_secret_proves_a_session_and_no_text_shows_it(wrong: str) -> None:
    async with Bench() as bench:
        session = bench.session
        assert session.proves(session.secret)
        assert not session.proves(wrong)
        assert len(session.secret) == 32  # 128 bits
        assert session.secret not in repr(session)
