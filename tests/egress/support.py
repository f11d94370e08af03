"""A proxy, its clients and a service behind it, all in the test's hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.e2e.http_support import PATIENCE, Wire
from tests.support.scripted import dial
from tunnelkit.egress import Access, EgressProxy

__all__ = ["Site", "hear_connect", "proxied", "request5"]

GRANTED = b"\x05\x00\x00\x01"


class Site:
    """What a test has: ``proxy``, its access log, and a listening socket that plays the destination."""

    def __init__(self) -> None:
        self.proxy: EgressProxy
        self.log: list[Access] = []
        self.service = socket.create_server(("127.0.0.1", 0))
        self.service.setblocking(False)
        self.port: int = self.service.getsockname()[1]
        self._wires: list[Wire] = []

    async def client(self) -> Wire:
        """A connection to the proxy."""
        return self._kept(await dial(*self.proxy.addresses[0]))

    async def accept(self) -> Wire:
        """The next connection to the service."""
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.service)
        return self._kept(sock)

    def _kept(self, sock: socket.socket) -> Wire:
        self._wires.append(wire := Wire(sock))
        return wire

    @property
    def ends(self) -> list[str]:
        return [access.end for access in self.log]

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
        self.service.close()


@asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[Site]:
    """A proxy that may go to this machine. What a callback of its raises fails the test."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    site = Site()
    options = {"rules": ["allow 127.0.0.1", "allow [::1]", "allow localhost"], **options}
    try:
        async with EgressProxy(on_access=site.log.append, **options) as site.proxy:
            try:
                yield site
            finally:
                site.close()
    finally:
        site.close()
    for context in failures:
        raise AssertionError(context["message"]) from context.get("exception")


def request5(host: str, port: int, command: int = 1) -> bytes:
    """A SOCKS5 request for a name or an IPv4 address."""
    try:
        address = b"\x01" + socket.inet_aton(host)
    except OSError:
        address = b"\x03" + bytes([len(host)]) + host.encode()
    return bytes([5, command, 0]) + address + port.to_bytes(2, "big")


async def hear_connect(site: Site, client: Wire) -> Wire:
    """Have the proxy connect ``client`` to the service by SOCKS5; the service's end."""
    await client.send(b"\x05\x01\x00" + request5("127.0.0.1", site.port))
    assert await client.exactly(2) == b"\x05\x00"
    assert (await client.exactly(10))[:4] == GRANTED
    return await site.accept()
