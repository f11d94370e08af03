"""Bodies of any size in bounded memory, on both loops, by splice and by copy."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import zlib
from pathlib import Path

import pytest

from tests.e2e.http_support import GET, OK, PIECE, SPLICES, Service, Site, Wire, tunnelled, until
from tunnelkit.net.pump import READ_SIZE

SIZE = 100_000_000
PATTERN = random.Random(1).randbytes(PIECE)
ROOM = 32_000_000
"""Bytes by which the process may grow: the buffers of the relay, the agent and the test, and slack."""

CHUNK_HEAD = b"%x\r\n" % PIECE
FRAMINGS = [pytest.param(False, id="length"), pytest.param(True, id="chunks")]

measured = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Sum:
    """What has passed: its size, its checksum, and how much memory the process took meanwhile."""

    def __init__(self) -> None:
        self.size = self.crc = self.peak = 0

    def add(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self.peak = max(self.peak, resident())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and (self.size, self.crc) == (other.size, other.crc)

    __hash__ = None  # type: ignore[assignment]


async def send_body(wire: Wire, size: int, *, chunked: bool) -> Sum:
    """Send ``size`` bytes; what went over the wire."""
    total = Sum()
    for sent in range(0, size, PIECE):
        piece = PATTERN[: size - sent]
        if chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        await wire.send(piece)
        total.add(piece)
    if chunked:
        await wire.send(b"0\r\n\r\n")
        total.add(b"0\r\n\r\n")
    return total


async def take_body(wire: Wire, size: int) -> Sum:
    """Receive ``size`` bytes, or to the end, and keep none."""
    loop, total = asyncio.get_running_loop(), Sum()
    held = await wire.exactly(len(wire._buffer))
    total.add(held)
    buffer = memoryview(bytearray(PIECE))
    while total.size < size and (count := await loop.sock_recv_into(wire.sock, buffer)):
        total.add(buffer[:count])
    return total


def framing(size: int, *, chunked: bool) -> tuple[bytes, int]:
    """The field, and the bytes on the wire."""
    if not chunked:
        return b"Content-Length: %d\r\n\r\n" % size, size
    whole, rest = divmod(size, PIECE)
    lines = [len(b"%x\r\n\r\n" % PIECE)] * whole + [len(b"%x\r\n\r\n" % rest)] * bool(rest)
    return b"Transfer-Encoding: chunked\r\n\r\n", size + sum(lines) + len(b"0\r\n\r\n")


@measured
@pytest.mark.parametrize("chunked", FRAMINGS)
@pytest.mark.parametrize("splice", SPLICES)
async def test_a_download_of_any_size_takes_a_bounded_amount_of_memory(splice: bool, chunked: bool) -> None:
    field, size = framing(SIZE, chunked=chunked)
    sums: list[Sum] = []

    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n" + field)
        sums.append(await send_body(wire, SIZE, chunked=chunked))

    async with Service(handle) as service, tunnelled(service, splice=splice) as site:
        visitor = await site.visit()
        before = resident()
        await visitor.send(GET)
        await visitor.head()
        received = await take_body(visitor, size)
        await service.settled()
        assert [received] == sums
        assert received.peak - before < ROOM


@measured
@pytest.mark.parametrize("chunked", FRAMINGS)
@pytest.mark.parametrize("splice", SPLICES)
async def test_an_upload_of_any_size_takes_a_bounded_amount_of_memory(splice: bool, chunked: bool) -> None:
    field, size = framing(SIZE, chunked=chunked)
    sums: list[Sum] = []

    async def handle(wire: Wire) -> None:
        await wire.head()
        sums.append(await take_body(wire, size))
        await wire.send(OK)

    async with Service(handle) as service, tunnelled(service, splice=splice) as site:
        visitor = await site.visit()
        before = resident()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\n" + field)
        sent = await send_body(visitor, SIZE, chunked=chunked)
        assert (await visitor.response()).status == 200
        assert sums == [sent]
        assert sums[0].peak - before < ROOM


@pytest.mark.parametrize("splice", SPLICES)
async def test_both_ways_at_once_and_the_connection_goes_on(splice: bool) -> None:
    """An echo that answers while it is asked, as gRPC-like services do."""
    size = 10_000_000

    async def handle(wire: Wire) -> None:
        head = await wire.head()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % head[b"Content-Length"])
        loop, left = asyncio.get_running_loop(), size
        piece = await wire.exactly(len(wire._buffer))
        while piece:
            await wire.send(piece)
            left -= len(piece)
            piece = await loop.sock_recv(wire.sock, min(left, PIECE)) if left else b""

    async with Service(handle) as service, tunnelled(service, splice=splice) as site:
        visitor = await site.visit()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(send_body(visitor, size, chunked=False))
        head = await visitor.head()
        assert head[b"Connection"] == b"close"  # it began before the request had ended
        assert await take_body(visitor, size) == await sending


# --- readers that stall -------------------------------------------------------------------------

READERS = 200
BODY = 10_000_000


def kept(site: Site) -> int:
    """Bytes that the relay and the agent keep for connections that do not take them."""
    (session,) = site.relay._door.sessions.values()
    channels = [*session._channels.values(), *site.agent._link.pool.channels.values()]
    return (
        sum(len(visitor._pending or b"") + len(visitor._buffer) for visitor in site.relay._http._visitors)
        + sum(len(channel._head) + len(channel._tail) for channel in channels)
        + sum(len(join._pending or b"") for join in site.tunnel.traffic._open)
    )


@measured
async def test_stalled_readers_keep_the_memory_bounded() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY)
        await send_body(wire, BODY, chunked=False)

    async with Service(handle) as service, tunnelled(service) as site:
        before = resident()
        visitors = [await site.visit() for _ in range(READERS)]
        for visitor in visitors:
            await visitor.send(GET)
        await until(lambda: sum(one._pending is not None for one in site.relay._http._visitors) == READERS)
        assert kept(site) < READERS * 3 * READ_SIZE
        assert resident() - before < READERS * 4 * READ_SIZE  # of 2 GB that the service would like to send
        for visitor in visitors[:-2]:
            visitor.reset()
        for visitor in visitors[-2:]:
            await visitor.head()
            assert (await take_body(visitor, BODY)).size == BODY
        await until(lambda: not kept(site))
