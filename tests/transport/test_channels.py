"""The byte path from end to end in one loop: every byte, every end, every abort."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading

import pytest

from tests.support.chain import Chain, read_all, send_and_end, tcp_pair
from tunnelkit.errors import ProtocolError
from tunnelkit.transport.channels import OpenerChannel
from tunnelkit.wire.channel import State
from tunnelkit.wire.frames import Opcode, frame
from tunnelkit.wire.messages import End, Open, Ready, Retire, encode

WAYS = [
    pytest.param({"splice": True}, id="splice"),
    pytest.param({"splice": False}, id="copy"),
    pytest.param({"splice": False, "random_mask": True}, id="masked"),
]
SIZES = [0, 1, 125, 126, 65535, 65536, 65537, 5_000_000]


def hard_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
async def test_both_directions_carry_every_byte_and_the_channel_is_free_again(way, size) -> None:
    up, down = os.urandom(size), os.urandom(size)
    async with Chain(**way) as chain:
        for _ in range(2):  # the second stream on the same channel
            visitor, service = chain.open()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_and_end(visitor, up))
                group.create_task(send_and_end(service, down))
                at_service = group.create_task(read_all(service))
                at_visitor = group.create_task(read_all(visitor))
            assert at_service.result() == up
            assert at_visitor.result() == down
            await chain.free.wait()
            assert chain.codes == {"relay": None, "agent": None}
            assert chain.relay.state is chain.agent.state is State.IDLE
            visitor.close()
            service.close()


@pytest.mark.parametrize("way", WAYS)
async def test_half_close_an_answer_after_the_visitor_has_ended(way) -> None:
    """A megabyte up, the end, then the whole answer down: what most tunnels lose."""
    up, down = os.urandom(1_000_000), os.urandom(3_000_000)
    async with Chain(**way) as chain:
        visitor, service = chain.open()

        async def serve() -> None:
            assert await read_all(service) == up
            await send_and_end(service, down)

        async with asyncio.TaskGroup() as group:
            group.create_task(serve())
            group.create_task(send_and_end(visitor, up))
            answer = group.create_task(read_all(visitor))
        assert answer.result() == down


@pytest.mark.parametrize("way", WAYS)
async def test_half_close_the_service_ends_first(way) -> None:
    up, down = os.urandom(3_000_000), os.urandom(100)
    async with Chain(**way) as chain:
        visitor, service = chain.open()
        await send_and_end(service, down)
        assert await read_all(visitor) == down
        async with asyncio.TaskGroup() as group:
            group.create_task(send_and_end(visitor, up))
            received = group.create_task(read_all(service))
        assert received.result() == up
        await chain.free.wait()


async def test_one_byte_at_a_time() -> None:
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        for value in range(50):
            await loop.sock_sendall(visitor, bytes([value]))
            assert await loop.sock_recv(service, 10) == bytes([value])


@pytest.mark.parametrize("way", WAYS)
async def test_a_reset_visitor_resets_the_service(way) -> None:
    async with Chain(**way) as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        await loop.sock_sendall(visitor, b"x")
        assert await loop.sock_recv(service, 10) == b"x"
        hard_close(visitor)
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(service, 10)
        assert chain.codes["relay"] == "reset"
        assert chain.relay.closed  # never recycled


@pytest.mark.parametrize("way", WAYS)
async def test_what_came_before_a_reset_is_delivered_before_it(way) -> None:
    """A service that answers and then resets: the visitor gets the answer, then the failure."""
    answer = os.urandom(2_000_000)
    async with Chain(**way) as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(loop.sock_sendall(service, answer))
        received = bytearray()
        while len(received) < len(answer):
            received += await loop.sock_recv(visitor, 1 << 20)
        await sending
        hard_close(service)
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(visitor, 10)
        assert received == answer


async def test_a_channel_that_dies_is_an_abort_and_never_a_clean_end() -> None:
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        await loop.sock_sendall(visitor, b"x")
        assert await loop.sock_recv(service, 10) == b"x"
        chain.agent._sock.shutdown(socket.SHUT_RDWR)  # the carrier is gone
        for sock in (visitor, service):
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 10)


@pytest.mark.parametrize("way", WAYS)
async def test_a_stalled_reader_holds_up_the_sender_and_loses_nothing(way) -> None:
    data = os.urandom(1_000_000) * 90  # more than three connections keep in the kernel
    async with Chain(**way) as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(send_and_end(service, data))
        await chain_blocked(chain)
        kept = len(chain.relay_join._pending or b"") + len(chain.agent._head)
        assert kept < 200_000  # a buffer each side, whatever the service would like to send
        assert not sending.done()
        assert await read_all(visitor) == data
        await sending


async def chain_blocked(chain: Chain) -> None:
    """Wait until both sides have stopped reading."""
    while chain.relay_join.flowing or not chain.agent.blocked:
        await asyncio.sleep(0)


async def test_a_visitor_that_resets_while_its_stream_is_blocked_is_noticed() -> None:
    """The relay does not read from it then, and a descriptor nobody reads reports no reset."""
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(loop.sock_sendall(visitor, bytes(90_000_000)))
        while not chain.relay.blocked:
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        hard_close(visitor)
        async with asyncio.timeout(10):
            await chain.finished["relay"].wait()
        assert chain.codes["relay"] == "reset"
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionResetError):
                await read_all(service)


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    async with Chain(stall_timeout=0.5) as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(loop.sock_sendall(service, bytes(90_000_000)))
        async with asyncio.timeout(10):
            await chain.finished["relay"].wait()
        assert chain.codes["relay"] == "stalled"
        await asyncio.gather(sending, return_exceptions=True)
        visitor.close()


async def test_a_refused_stream_resets_the_visitor_and_frees_the_channel() -> None:
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        chain.refuse = True
        visitor, _ = chain.open()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(visitor, 10)
        await chain.free.wait()
        assert chain.codes == {"relay": "service_refused"}


async def test_pings_are_answered_while_payload_is_blocked() -> None:
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(send_and_end(service, os.urandom(20_000_000)))
        await chain_blocked(chain)
        chain.relay.ping()
        chain.agent.ping()
        await read_all(visitor)
        await sending
        await send_and_end(visitor, b"")
        await chain.free.wait()


async def test_a_pipe_that_is_in_use_when_its_stream_fails_is_not_used_again() -> None:
    async with Chain() as chain:
        loop = asyncio.get_running_loop()
        visitor, service = chain.open()
        sending = loop.create_task(loop.sock_sendall(service, bytes(90_000_000)))
        await chain_blocked(chain)
        hard_close(visitor)
        async with asyncio.timeout(10):
            await chain.finished["relay"].wait()
        await asyncio.gather(sending, return_exceptions=True)
        async with asyncio.timeout(10):
            await chain.finished["agent"].wait()
        for pump in (chain.relay_pump, chain.agent_pump):
            assert all(not pipe.held for pipe in pump.pipes._free)


class Bench:
    """A relay's channel with the test as its agent."""

    def __init__(self) -> None:
        from tunnelkit.net.pump import Pump

        self.pump = Pump(asyncio.get_running_loop())
        self.peer, end = tcp_pair()
        self.channel = OpenerChannel(self.pump, end, 1, self)
        self.events: list[object] = []
        self.lost = asyncio.Event()
        self.channel.start()

    def payload(self, data) -> None:
        self.events.append(bytes(data))

    def ended(self) -> None:
        self.events.append("ended")

    def refused(self, code: str, what: str) -> None:
        self.events.append(code)

    def aborted(self, code: str) -> None:
        self.events.append(code)

    def drained(self) -> None: ...
    def channel_answered(self, channel) -> None: ...

    def channel_free(self, channel) -> None:
        self.events.append("free")

    def channel_gone(self, channel) -> None:
        self.lost.set()

    def send(self, message) -> None:
        self.events.append(message)

    async def says(self, *messages: object) -> None:
        """The agent sends ``messages`` and then nothing."""
        for message in messages:
            data = message if isinstance(message, bytes) else frame(encode(message), Opcode.TEXT, bytes(4))
            await asyncio.get_running_loop().sock_sendall(self.peer, data)

    def close(self) -> None:
        self.channel.lost("test")
        self.pump.close()
        self.peer.close()


@pytest.mark.parametrize(
    "message",
    [
        frame(b"payload", Opcode.BINARY, bytes(4)),
        End(0),
        Ready(0),
        Open(1, 1, ""),
        frame(b"{", Opcode.TEXT, bytes(4)),
        frame(b"unmasked"),
    ],
    ids=["payload", "end", "ready", "open", "no json", "unmasked"],
)
async def test_what_is_out_of_order_on_an_idle_channel_ends_it_alone(message) -> None:
    bench = Bench()
    try:
        await bench.says(message)
        async with asyncio.timeout(5):
            await bench.lost.wait()
        assert bench.channel.closed
    finally:
        bench.close()


async def test_an_end_that_counts_wrong_aborts_the_stream() -> None:
    from tunnelkit.wire.messages import Opened

    bench = Bench()
    try:
        bench.channel.open(Open(7, 1, ""), bench)
        await bench.says(Opened(7), frame(b"abc", Opcode.BINARY, bytes(4)), End(4))
        async with asyncio.timeout(5):
            await bench.lost.wait()
        assert bench.events == [b"abc", "protocol"]
    finally:
        bench.close()


async def test_a_channel_that_dies_before_opened_says_so() -> None:
    bench = Bench()
    try:
        bench.channel.open(Open(7, 1, ""), bench)
        bench.peer.close()
        async with asyncio.timeout(5):
            await bench.lost.wait()
        assert bench.events == ["unanswered"]
    finally:
        bench.close()


async def test_a_channel_that_dies_between_end_and_ready_is_not_recycled() -> None:
    from tunnelkit.wire.messages import Opened

    bench = Bench()
    try:
        bench.channel.open(Open(7, 1, ""), bench)
        bench.channel.end(delivered=False)
        await bench.says(Opened(7), End(0))
        while "ended" not in bench.events:
            await asyncio.sleep(0)
        bench.channel.delivered()
        bench.peer.close()
        async with asyncio.timeout(5):
            await bench.lost.wait()
        assert "free" not in bench.events
    finally:
        bench.close()


async def test_a_channel_that_is_to_retire_closes_once_it_is_free() -> None:
    from tunnelkit.wire.messages import Opened

    bench = Bench()
    try:
        bench.channel.open(Open(7, 1, ""), bench)
        await bench.says(Retire(), Opened(7), End(0))
        while "ended" not in bench.events:
            await asyncio.sleep(0)
        bench.channel.end(delivered=True)
        assert not bench.channel.closed
        await bench.says(Ready(7))
        async with asyncio.timeout(5):
            await bench.lost.wait()
    finally:
        bench.close()


def test_two_loops_in_two_threads_never_share_a_byte() -> None:
    """recv_into releases the interpreter lock: a buffer that two loops shared would mix them up."""
    failures: list[BaseException] = []

    def run(mark: bytes) -> None:
        async def main() -> None:
            async with Chain(splice=False) as chain:
                visitor, service = chain.open()
                async with asyncio.TaskGroup() as group:
                    group.create_task(send_and_end(visitor, mark * 20_000_000))
                    group.create_task(send_and_end(service, mark * 20_000_000))
                    one = group.create_task(read_all(service))
                    two = group.create_task(read_all(visitor))
                for received in (one.result(), two.result()):
                    assert len(received) == 20_000_000
                    assert received.count(mark) == len(received)

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=run, args=(mark,)) for mark in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


async def test_the_error_of_the_table_is_the_one_that_is_raised() -> None:
    bench = Bench()
    try:
        with pytest.raises(ProtocolError):
            bench.channel.end(delivered=False)
    finally:
        bench.close()


class Flaky:
    """A pool of pipes that has one only every other time."""

    def __init__(self, pipes) -> None:
        self._pipes = pipes
        self._turn = False

    def take(self):
        self._turn = not self._turn
        return self._pipes.take() if self._turn else None

    def give(self, pipe) -> None:
        self._pipes.give(pipe)

    def close(self) -> None:
        self._pipes.close()


async def test_large_frames_arrive_whole_when_pipes_run_out_between_them() -> None:
    data = os.urandom(1_000_000) * 40
    async with Chain() as chain:
        chain.agent_pump.pipes = Flaky(chain.agent_pump.pipes)
        visitor, service = chain.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(send_and_end(visitor, data))
            group.create_task(send_and_end(service, b""))
            received = group.create_task(read_all(service))
        assert received.result() == data
        await chain.free.wait()


async def test_a_stream_that_ends_while_its_reader_is_slow_leaves_the_channel_usable() -> None:
    """The last payload blocks, and the end comes with it in one read."""
    from tunnelkit.net.pump import Join
    from tunnelkit.wire.messages import Opened

    bench = Bench()
    visitor, inside = tcp_pair()
    try:
        done: list[str | None] = []
        inside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        join = Join(bench.pump, inside, bench.channel, lambda _, code: done.append(code))
        bench.channel.open(Open(7, 1, ""), join)
        join.start()
        payload = bytes(50_000)
        await bench.says(Opened(7))
        while bench.channel.state is not State.OPEN:
            await asyncio.sleep(0)
        end = frame(encode(End(len(payload))), Opcode.TEXT, bytes(4))
        await bench.says(frame(payload, Opcode.BINARY, bytes(4)) + end)
        while join.flowing:
            await asyncio.sleep(0)
        visitor.shutdown(socket.SHUT_WR)
        assert await read_all(visitor) == payload
        await bench.says(Ready(7))
        async with asyncio.timeout(5):
            while "free" not in bench.events:
                await asyncio.sleep(0)
        assert done == [None]
        assert not bench.channel.paused
    finally:
        visitor.close()
        bench.close()


async def test_a_channel_that_is_being_cancelled_never_says_that_it_is_ready() -> None:
    async with Chain() as chain:
        visitor, service = chain.open()
        service.shutdown(socket.SHUT_WR)
        assert await read_all(visitor) == b""
        chain.send = lambda _: True  # the control connection is slow
        chain.agent_join.cancel("test")
        visitor.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            while chain.agent.state is not State.ENDED:
                await asyncio.sleep(0)
            chain.relay.heard = False
            chain.relay.ping()
            while not chain.relay.heard:  # whatever the agent had to say came before this
                await asyncio.sleep(0)
        assert chain.relay.state is State.ENDED
        assert not chain.free.is_set()


async def test_a_ping_that_is_kept_goes_out_before_what_is_spliced() -> None:
    from tunnelkit.net.pipes import Pipe

    async with Chain() as chain:
        chain.relay._head = frame(b"", Opcode.PING)  # as if the peer had not taken it
        reader, writer = os.pipe()
        os.write(writer, b"payload")
        pipe = Pipe(reader, writer)
        pipe.held = 7
        assert chain.relay.send_spliced(pipe, 7) is False
        assert chain.relay._head == frame(b"", Opcode.PING) + b"\x82\x07"
        assert chain.relay._pipe is pipe


async def test_a_connection_that_is_dead_already_is_not_waited_for() -> None:
    """The kernel goes on counting what it will never send."""
    from tunnelkit.net.pump import Pump

    loop = asyncio.get_running_loop()
    pump = Pump(loop)
    one, two = tcp_pair()
    try:
        with contextlib.suppress(BlockingIOError):
            while one.send(bytes(1 << 20)):
                pass
        hard_close(two)
        async with asyncio.timeout(5):
            while True:
                try:
                    one.getpeername()
                except OSError:
                    break
                await asyncio.sleep(0)
        pump.reset(one)
        assert one.fileno() == -1
    finally:
        pump.close()
        one.close()
