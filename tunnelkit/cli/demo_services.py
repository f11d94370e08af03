"""The two services behind the demonstration's tunnels: a page, and an echo."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any

from tunnelkit.net.tasks import Tasks

__all__ = ["demo_services"]

CHUNK = 256 * 1024
"""Bytes that the echo reads at once."""


class _Page:
    """A small HTTP/1.1 server: the page at every path, and an event stream at /time."""

    def __init__(self) -> None:
        self._requests = 0
        self._page = files("tunnelkit.cli").joinpath("demo.html").read_text(encoding="utf-8")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with any number of requests."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            request, *fields = head.decode("latin-1").split("\r\n")
            method, _, rest = request.partition(" ")
            self._requests += 1
            if method not in ("GET", "HEAD"):
                writer.write(
                    b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"
                )
                return
            if rest.startswith("/time "):
                await self._stream_time(writer)
            headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            body = self._render(headers).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
                % len(body)
            )
            if method == "GET":
                writer.write(body)
            await writer.drain()

    def _render(self, headers: dict[str, str]) -> str:
        page = self._page
        facts = {
            "host": headers.get("host", ""),
            "visitor": headers.get("x-forwarded-for", ""),
            "requests": f"{self._requests:,}",
        }
        for name, fact in facts.items():
            page = page.replace(f"{{{name}}}", escape(fact))
        return page

    async def _stream_time(self, writer: asyncio.StreamWriter) -> None:
        """Until the visitor goes."""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        while True:
            writer.write(f"data: {datetime.now().astimezone():%H:%M:%S}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(1)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def demo_services() -> AsyncIterator[tuple[int, int]]:
    """Both services on 127.0.0.1; the ports of the page and of the echo."""
    tasks = Tasks("demo")
    page, page_port = await _start(_Page().serve, tasks)
    echo, echo_port = await _start(_echo, tasks)
    try:
        yield page_port, echo_port
    finally:
        page.close()
        echo.close()
        await tasks.close()


async def _start(serve: Serve, tasks: Tasks) -> tuple[asyncio.Server, int]:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the visitor has gone, or is no browser
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.spawn(connection(reader, writer), "visitor")

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]
