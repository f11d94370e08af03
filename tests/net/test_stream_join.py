"""Two streams joined: bytes, ends, aborts and pressure, with and without splice."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.support.chain import read_all, send_and_end, tcp_pair
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.net.stream_join import StreamJoin
from tunnelkit.transport.channels import AcceptorChannel, OpenerChannel
from tunnelkit.wire.channel import State
from tunnelkit.wire.messages import Cancel, Message, Open

WAYS = [
    pytest.param({"splice": True}, id="splice"),
    pytest.param({"splice": False}, id="copy"),
]


class Passage:
    """client – proxy's channel – relay's two channels – exit's channel – service; the test has the ends.

    The proxy's side of its channel is the WebSocket's client and the opener, that of the exit the
    client and the acceptor, as in life.
    """

    def __init__(self, *, splice: bool) -> None:
        loop = asyncio.get_running_loop()
        self.pumps = [Pump(loop, splice=splice) for _ in range(3)]
        proxy, relay, exit_ = self.pumps
        one, two = tcp_pair()
        self.proxy = OpenerChannel(proxy, one, 1, self, client=True)
        self.near = AcceptorChannel(relay, two, 1, self, client=False)
        one, two = tcp_pair()
        self.far = OpenerChannel(relay, one, 2, self)
        self.exit = AcceptorChannel(exit_, two, 2, self)
        self.channels = [self.proxy, self.near, self.far, self.exit]
        self.codes: dict[str, str | None] = {}
        self.done = {name: asyncio.Event() for name in ("proxy", "relay", "exit")}
        self.free = 0
        for channel in self.channels:
            channel.start()
        self._stream = 0

    def open(self) -> tuple[socket.socket, socket.socket]:
        self._stream += 1
        self.codes.clear()
        for event in self.done.values():
            event.clear()
        self.client, inside = tcp_pair()
        self.service, self._service_inside = tcp_pair()
        join = Join(self.pumps[0], inside, self.proxy, lambda _, code: self._over("proxy", code))
        self.proxy.open(Open(self._stream, 0, "me"), join)
        join.start()
        return self.client, self.service

    def _over(self, who: str, code: str | None) -> None:
        assert who not in self.codes
        self.codes[who] = code
        self.done[who].set()

    # the owner of all four

    def stream_opened(self, channel: AcceptorChannel, request: Open) -> None:
        if channel is self.near:
            self.join = join = StreamJoin(
                self.pumps[1], self.near, self.far, lambda _, code: self._over("relay", code)
            )
            self.near.use(join.first)
            self.far.open(request, join.second, opened=self.near.accept_egress)
        else:
            channel.accept_egress("192.0.2.1")
            join = Join(
                self.pumps[2], self._service_inside, channel, lambda _, code: self._over("exit", code)
            )
            channel.use(join)
            join.start()

    def channel_answered(self, channel: OpenerChannel) -> None: ...

    def channel_free(self, channel: OpenerChannel) -> None:
        self.free += 1

    def channel_gone(self, channel: object) -> None: ...

    def send(self, message: Message) -> bool:
        assert isinstance(message, Cancel)
        pair = (self.proxy, self.near) if message.channel == 1 else (self.far, self.exit)
        for channel in pair:
            if not channel.closed and not channel.cancelling:
                channel.cancelled(message.stream, message.code, message.sent)
        return True

    async def __aenter__(self) -> Passage:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self.channels:
            channel.lost("test")
        for pump in self.pumps:
            pump.close()
        for sock in (self.client, self.service, self._service_inside):
            sock.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
async def test_every_byte_passes_and_all_channels_are_free_again(way, size) -> None:
    up, down = os.urandom(size), os.urandom(size)
    async with Passage(**way) as passage:
        for _ in range(2):
            client, service = passage.open()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_and_end(client, up))
                group.create_task(send_and_end(service, down))
                at_service = group.create_task(read_all(service))
                at_client = group.create_task(read_all(client))
            assert at_service.result() == up
            assert at_client.result() == down
            for event in passage.done.values():
                await event.wait()
            assert passage.codes == {"proxy": None, "relay": None, "exit": None}
            while any(channel.state is not State.IDLE for channel in passage.channels):
                await asyncio.sleep(0)
            client.close()
            service.close()
        assert passage.free == 4
        assert passage.join.first.passed == passage.join.second.passed == size


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["client", "service"])
async def test_half_close_either_way(way, first) -> None:
    async with Passage(**way) as passage:
        one, other = passage.open()
        if first == "service":
            one, other = other, one
        await send_and_end(one, b"question")
        assert await read_all(other) == b"question"
        answer = os.urandom(2_000_000)
        async with asyncio.TaskGroup() as group:
            group.create_task(send_and_end(other, answer))
            received = group.create_task(read_all(one))
        assert received.result() == answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ["client", "service"])
async def test_a_reset_passes_and_what_came_before_it_first(way, who) -> None:
    loop = asyncio.get_running_loop()
    data = os.urandom(1_000_000)
    async with Passage(**way) as passage:
        ends = dict(zip(("client", "service"), passage.open(), strict=True))
        one = ends.pop(who)
        (other,) = ends.values()
        sending = loop.create_task(loop.sock_sendall(one, data))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(other, 1 << 20)
        await sending
        hard_close(one)
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(other, 10)
        assert received == data
        await passage.done["relay"].wait()
        assert passage.codes["relay"] is not None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ["client", "service"])
async def test_who_takes_nothing_stops_the_other_and_loses_nothing(way, who) -> None:
    loop = asyncio.get_running_loop()
    data = os.urandom(1_000_000) * 120  # more than five connections keep in the kernel
    async with Passage(**way) as passage:
        client, service = passage.open()
        source, sink = (service, client) if who == "client" else (client, service)
        sending = loop.create_task(send_and_end(source, data))
        async with asyncio.timeout(20):
            while not hasattr(passage, "join") or (
                passage.join.first.flowing and passage.join.second.flowing
            ):
                await asyncio.sleep(0)
        kept = sum(len(channel._head) for channel in passage.channels)
        assert kept < 400_000
        assert not sending.done()
        received = 0
        while piece := await loop.sock_recv(sink, 1 << 20):
            received += len(piece)
        assert received == len(data)
        await sending


async def test_large_payload_goes_through_the_relay_by_splice() -> None:
    async with Passage(splice=True) as passage:
        if not passage.pumps[1].splices:
            pytest.skip("no splice(2) here")
        client, service = passage.open()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"x")
        await loop.sock_recv(service, 1)
        sending = loop.create_task(send_and_end(client, bytes(20_000_000)))
        received = await read_all(service)
        await sending
        assert len(received) == 20_000_000
        assert passage.pumps[1].pipes._free  # it had one


async def test_ended_from_outside_it_aborts_both() -> None:
    loop = asyncio.get_running_loop()
    async with Passage(splice=False) as passage:
        client, service = passage.open()
        await loop.sock_sendall(client, b"x")
        assert await loop.sock_recv(service, 1) == b"x"
        passage.join.cancel("relay_closed")
        for sock in (client, service):
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 10)
        assert passage.codes["relay"] == "relay_closed"
