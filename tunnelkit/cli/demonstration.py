"""Runs the demonstration: opens both tunnels, visits them, and measures."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

from tunnelkit.agent import AgentTunnel
from tunnelkit.cli.demo_services import demo_services
from tunnelkit.cli.output import is_terminal, stderr, stdout
from tunnelkit.cli.running import Stop, run
from tunnelkit.compose import connected_agent
from tunnelkit.config import AgentSettings
from tunnelkit.errors import TunnelkitError, TunnelTimeoutError

__all__ = ["demonstrate"]

REQUESTS = 600
VISITORS = 8
"""Keep-alive connections that share the requests: enough to keep one core busy."""

ROUND_TRIPS = 500
BULK = 128 * 1024 * 1024
"""Bytes each way: a good part of a second."""

PIECE = 256 * 1024
"""Bytes written at once."""

TIMEOUT = 30.0
"""Seconds for everything, on a machine a hundred times slower than usual."""


def demonstrate() -> None:
    """Run ``tunnelkit demo``."""
    run(_demonstrate, log=stderr().line)


async def _demonstrate(stop: Stop) -> None:
    out = stdout().line
    async with demo_services() as (page_port, echo_port), connected_agent(AgentSettings()) as session:
        out("A relay and an agent run in this process, and so do two services:")
        page = await session.agent.open("http", page_port)
        out(f"  a web page   127.0.0.1:{page_port}, public at {page.url}")
        echo = await session.agent.open("tcp", echo_port)
        out(f"  a TCP echo   127.0.0.1:{echo_port}, public at {echo.url}")
        out("")
        out("Through their public addresses, everything on this machine and in one process:")
        try:
            async with asyncio.timeout(TIMEOUT):
                await _visit_page(page, out)
                await _visit_echo(echo, out)
        except TimeoutError:
            raise TunnelTimeoutError(f"The demonstration took more than {TIMEOUT:g} s") from None
        except (OSError, EOFError) as error:
            raise TunnelkitError(f"A visit failed: {error}") from error
        out("")
        if is_terminal(sys.stdout):
            stop.up()
            out(f"Open {page.url} in a browser. Ctrl-C ends the demonstration.")
            await stop.asked.wait()


async def _visit_page(page: AgentTunnel, out: Callable[[str], None]) -> None:
    body = await _requests(page, 1)
    if b"through a tunnel" not in body:
        raise TunnelkitError(f"{page.url} answered with another page")
    out(f"  the page came, {len(body):,} bytes")
    began = time.perf_counter()
    await asyncio.gather(*(_requests(page, REQUESTS // VISITORS) for _ in range(VISITORS)))
    seconds = time.perf_counter() - began
    out(f"  {REQUESTS / seconds:,.0f} requests a second ({REQUESTS} over {VISITORS} connections)")


async def _requests(page: AgentTunnel, count: int) -> bytes:
    """The body of the last of ``count`` requests on one connection."""
    reader, writer = await asyncio.open_connection(page.host, page.port)
    request = f"GET / HTTP/1.1\r\nHost: {page.host}:{page.port}\r\n\r\n".encode()
    body = b""
    try:
        for _ in range(count):
            writer.write(request)
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            if not status.startswith(b"http/1.1 200 "):
                raise TunnelkitError(f"{page.url} answered {status.decode('latin-1')!r}")
            lengths = [int(f.partition(b":")[2]) for f in fields if f.startswith(b"content-length:")]
            body = await reader.readexactly(lengths[0])
    finally:
        writer.close()
    return body


async def _visit_echo(echo: AgentTunnel, out: Callable[[str], None]) -> None:
    reader, writer = await asyncio.open_connection(echo.host, echo.port, limit=PIECE)
    try:
        times = [await _round_trip(reader, writer, b"%063d\n" % n) for n in range(ROUND_TRIPS)]
        micros = statistics.median(times) * 1e6
        out(f"  {micros:,.0f} µs for a round trip of 64 bytes (median of {ROUND_TRIPS})")
        began = time.perf_counter()
        back, _ = await asyncio.gather(_count(reader), _send_bulk(writer))
        seconds = time.perf_counter() - began
        if back != BULK:
            raise TunnelkitError(f"{BULK:,} bytes went out and {back:,} came back")
        out(f"  {BULK / seconds / 1e6:,.0f} MB/s each way at the same time ({BULK >> 20} MiB echoed)")
    finally:
        writer.close()


async def _round_trip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> float:
    began = time.perf_counter()
    writer.write(message)
    answer = await reader.readexactly(len(message))
    if answer != message:
        raise TunnelkitError("The echo came back changed")
    return time.perf_counter() - began


async def _send_bulk(writer: asyncio.StreamWriter) -> None:
    piece = bytes(range(256)) * (PIECE // 256)
    for _ in range(BULK // PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()  # the echo ends only now: half-close goes through, too


async def _count(reader: asyncio.StreamReader) -> int:
    """Bytes until the end."""
    count = 0
    while data := await reader.read(PIECE):
        count += len(data)
    return count
