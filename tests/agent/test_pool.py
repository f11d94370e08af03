"""An agent's data channels: how many are dialled, how often, and what happens to them at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.chain import tcp_pair
from tests.support.scripted import Peer, until
from tunnelkit.agent.pool import DIAL_TRIES, DIALS, Pool
from tunnelkit.errors import RelayUnreachableError
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.transport.channels import AcceptorChannel
from tunnelkit.wire.messages import Cancel, End, Message, Open


class Sink:
    """A stream's user that takes everything."""

    def payload(self, data: object) -> None: ...
    def ended(self) -> None: ...
    def drained(self) -> None: ...
    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...


class Bench:
    """A pool with the test as its relay. Dials wait for ``may_dial`` and fail while ``failing``."""

    def __init__(self) -> None:
        self.pump = Pump(asyncio.get_running_loop())
        self.may_dial = asyncio.Event()
        self.may_dial.set()
        self.failing = 0
        self.numbers: list[int] = []
        self.at_once = self.most_at_once = 0
        self.peers: list[Peer] = []
        self.opened: list[AcceptorChannel] = []
        self.sent: list[Message] = []
        self.connected = True
        self.pool = Pool(self.pump, self.dial, on_open=self.visitor, send=self.send, random_mask=False)

    async def dial(self, number: int) -> tuple[AnySocket, bytes]:
        self.numbers.append(number)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.may_dial.wait()
        finally:
            self.at_once -= 1
        if self.failing:
            self.failing -= 1
            raise RelayUnreachableError("not now")
        sock, end = tcp_pair()
        self.peers.append(Peer(end, client=False))
        return sock, b""

    def visitor(self, channel: AcceptorChannel, request: Open) -> None:
        channel.accept()
        channel.use(Sink())
        self.opened.append(channel)

    def send(self, message: Message) -> bool:
        self.sent.append(message)
        return self.connected

    async def settle(self) -> None:
        """Wait until nothing is dialled any more."""
        await until(lambda: not self.pool._dialling)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.pool.close()
    for peer in bench.peers:
        peer.close()
    bench.pump.close()


async def test_as_many_as_asked_for_are_dialled_each_with_a_number_of_its_own(bench: Bench) -> None:
    bench.pool.more(3)
    bench.pool.more(2)
    await bench.settle()
    assert sorted(bench.pool.channels) == sorted(bench.numbers) == [1, 2, 3, 4, 5]


async def test_what_is_asked_for_again_does_not_add_up_while_dials_hang(bench: Bench) -> None:
    """They may wait to be accepted by a relay that is overloaded already, or be lost."""
    bench.may_dial.clear()
    bench.pool.more(3)
    for _ in range(5):
        bench.pool.more(3, again=True)
    bench.may_dial.set()
    await bench.settle()
    assert len(bench.pool.channels) == 6


async def test_what_has_failed_is_dialled_again_when_it_is_asked_for_again(bench: Bench) -> None:
    bench.failing = 2 * DIAL_TRIES
    bench.pool.more(2)
    await bench.settle()
    assert not bench.pool.channels
    bench.pool.more(2, again=True)
    await bench.settle()
    assert len(bench.pool.channels) == 2


@pytest.mark.parametrize("count", [0, -1])
async def test_nothing_is_dialled_for_nothing(bench: Bench, count: int) -> None:
    bench.pool.more(count)
    await bench.settle()
    assert not bench.numbers


async def test_a_relay_gets_no_more_than_it_allows_however_many_it_asks_for(bench: Bench) -> None:
    bench.pool.limit = DIALS + 20
    bench.may_dial.clear()
    bench.pool.more(10**9)
    bench.pool.more(10**9)
    await until(lambda: bench.at_once == DIALS)
    bench.may_dial.set()
    await bench.settle()
    assert len(bench.pool.channels) == DIALS + 20
    assert bench.most_at_once == DIALS


async def test_a_dial_that_fails_is_tried_again_with_another_number(bench: Bench) -> None:
    bench.failing = DIAL_TRIES - 1
    bench.pool.more(1)
    await bench.settle()
    assert bench.numbers == [1, 2, 3]
    assert list(bench.pool.channels) == [3]


async def test_after_some_tries_the_relay_has_to_ask_again(bench: Bench) -> None:
    bench.failing = DIAL_TRIES
    bench.pool.more(1)
    await bench.settle()
    assert not bench.pool.channels
    bench.pool.more(1)
    await bench.settle()
    assert len(bench.pool.channels) == 1


async def test_a_channel_that_the_relay_closes_is_forgotten(bench: Bench) -> None:
    bench.pool.more(1)
    await bench.settle()
    bench.peers[0].close()
    await until(lambda: not bench.pool.channels)
    assert bench.pool.find(1) is None


async def test_closing_ends_channels_and_dials(bench: Bench) -> None:
    bench.pool.more(1)
    await bench.settle()
    bench.may_dial.clear()
    bench.pool.more(1)
    await until(lambda: bench.at_once == 1)
    await bench.pool.close()
    assert not bench.at_once
    assert not bench.pool.channels
    assert await bench.peers[0].end() is None


async def test_closing_that_is_cancelled_closes_all_the_same(bench: Bench) -> None:
    bench.pool.more(1)
    await bench.settle()
    bench.may_dial.clear()
    bench.pool.more(1)
    await until(lambda: bench.at_once == 1)
    closing = asyncio.create_task(bench.pool.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    assert not bench.at_once
    assert not bench.pool.channels


async def two_streams(bench: Bench) -> tuple[AcceptorChannel, AcceptorChannel]:
    bench.pool.more(2)
    await bench.settle()
    for peer in bench.peers:
        await peer.say(Open(1, 1, ""), peer.frame(b"up"))
    await until(lambda: len(bench.opened) == 2)
    one, two = bench.opened
    return one, two


async def test_an_abort_is_said_on_the_control_connection(bench: Bench) -> None:
    one, two = await two_streams(bench)
    one.cancel("reset")
    one.cancel("reset")
    assert bench.sent == [Cancel(one.number, 1, "reset", 0)]
    assert not one.closed
    assert not two.cancelling


async def test_without_a_control_connection_an_abort_ends_its_channel(bench: Bench) -> None:
    one, two = await two_streams(bench)
    bench.connected = False
    one.cancel("reset")
    assert one.closed
    assert not two.closed


async def test_an_abort_that_the_lost_connection_may_have_taken_along_is_said_by_closing(
    bench: Bench,
) -> None:
    one, two = await two_streams(bench)
    one.cancel("reset")
    bench.pool.resumed()
    assert one.closed
    assert not two.closed
    assert list(bench.pool.channels) == [two.number]


async def test_an_aborted_stream_goes_on_to_be_read_and_thrown_away(bench: Bench) -> None:
    one, _ = await two_streams(bench)
    one.cancel("reset")
    peer = bench.peers[one.number - 1]
    await peer.say(*[peer.frame(bytes(100_000))] * 20, End(2 + 20 * 100_000))
    await until(lambda: one.bytes_received == 2 + 20 * 100_000)
    assert not one.closed
