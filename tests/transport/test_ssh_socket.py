from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.chain import tcp_pair
from tests.support.scripted import until
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.transport import ssh_socket as module
from tunnelkit.transport.ssh_socket import EAGER, SshSocket


class Recorder(asyncio.Protocol):
    """What a transport says to its protocol."""

    def __init__(self) -> None:
        self.received = b""
        self.said: list[str] = []
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.said.append("eof")

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")
        self.error = exc


@asynccontextmanager
async def bench(received: bytes = b"") -> AsyncIterator[tuple[SshSocket, Recorder, socket.socket]]:
    """A transport, its protocol, and the peer's socket."""
    pump = Pump(asyncio.get_running_loop())
    near, far = tcp_pair()
    protocol = Recorder()
    transport = SshSocket(pump, near, protocol, received=received)
    try:
        yield transport, protocol, far
    finally:
        transport.abort()
        await until(lambda: "lost" in protocol.said)
        far.close()
        pump.close()


async def read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        assert piece
        data += piece
    return data


async def test_what_came_before_comes_first() -> None:
    async with bench(b"SSH-2.0-") as (_, protocol, far):
        far.send(b"Test\r\n")
        await until(lambda: len(protocol.received) == 14)
        assert protocol.received == b"SSH-2.0-Test\r\n"


async def test_the_writes_of_a_turn_leave_together() -> None:
    async with bench() as (transport, _, far):
        for piece in (b"a", bytearray(b"b"), memoryview(b"c")):
            transport.write(piece)
        with pytest.raises(BlockingIOError):
            far.recv(10)  # the turn is not over
        assert transport.get_write_buffer_size() == 3
        assert await read(far, 3) == b"abc"


async def test_a_peer_that_does_not_read_is_waited_for_and_nothing_is_lost() -> None:
    async with bench() as (transport, protocol, far):
        transport.set_write_buffer_limits(1 << 20, 1 << 16)
        data = os.urandom(EAGER)
        count = 0
        while "pause" not in protocol.said:
            transport.write(data)
            count += 1
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 1 << 20
        assert await read(far, count * len(data)) == data * count
        await until(lambda: "resume" in protocol.said)
        assert transport.get_write_buffer_size() == 0


async def test_a_peer_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT", 1 << 20)
    async with bench() as (transport, protocol, _):
        while "lost" not in protocol.said:
            transport.write(bytes(EAGER))
            await asyncio.sleep(0)
        assert isinstance(protocol.error, TimeoutError)


async def test_closing_sends_what_waits_and_aborting_does_not_wait() -> None:
    async with bench() as (transport, protocol, far):
        data = os.urandom(8 << 20)
        transport.write(data)
        transport.close()
        transport.write(b"too late")
        assert transport.is_closing()
        assert await read(far, len(data)) == data
        assert await asyncio.get_running_loop().sock_recv(far, 1) == b""
        await until(lambda: "lost" in protocol.said)
    async with bench() as (transport, protocol, _):
        transport.write(data)
        transport.abort()
        await until(lambda: "lost" in protocol.said)


async def test_the_end_and_the_reset_of_the_peer_are_told() -> None:
    async with bench() as (_, protocol, far):
        far.shutdown(socket.SHUT_WR)
        await until(lambda: "lost" in protocol.said)
        assert protocol.said == ["made", "eof", "lost"]
        assert protocol.error is None
    async with bench() as (transport, protocol, far):
        hard_close(far)
        with contextlib.suppress(OSError):
            transport.write(b"x")
        await until(lambda: "lost" in protocol.said)
        assert isinstance(protocol.error, ConnectionError)
