"""Proof that a new tunnel works: one visit to its public address, before anybody is told of it.

The relay connects to its own public listener like any visitor and sends nothing it could not. The
ingress recognises the connection by its source address and passes a one-time nonce to the agent,
which answers with it instead of dialling the service (which may start later).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Any

from tunnelkit.errors import TunnelTimeoutError
from tunnelkit.net.dial import DialError, Resolver
from tunnelkit.net.ready import writable
from tunnelkit.net.sockets import receive, send_all
from tunnelkit.relay.registry import RelayTunnel

__all__ = ["Prober"]

NAME_TIMEOUT = 2.0
"""Seconds for a public name to resolve: the agent waits, and only for a warning."""

MAX_ANSWER = 4096
"""Bytes of an answer to a probe."""


class Prober:
    """Sends probes; :attr:`expected` maps the source address of each to its nonce."""

    def __init__(self, timeout: float) -> None:
        self.expected: dict[Any, str] = {}
        self._timeout = timeout
        self._resolver = Resolver(timeout=NAME_TIMEOUT)

    async def probe(self, tunnel: RelayTunnel, listener: tuple[str, int]) -> None:
        """Return once the probe has come round. Raises TunnelTimeoutError."""
        nonce = secrets.token_hex(16)
        host, port = listener
        wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        host = wildcard.get(host, host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.bind((host, 0))
                await self._recognised(sock, (host, port), tunnel, nonce)
        except (TimeoutError, OSError) as error:
            raise TunnelTimeoutError(
                f"The probe of {tunnel.url} did not come round ({str(error) or 'time-out'})",
                hint="Try again; if it stays so, the connection between agent and relay loses data",
            ) from error

    async def _recognised(
        self, sock: socket.socket, address: tuple[str, int], tunnel: RelayTunnel, nonce: str
    ) -> None:
        source = sock.getsockname()[:2]
        self.expected[source] = nonce
        try:
            async with asyncio.timeout(self._timeout):
                await self._visit(sock, address, tunnel, nonce)
        finally:
            del self.expected[source]

    async def _visit(
        self, sock: socket.socket, address: tuple[str, int], tunnel: RelayTunnel, nonce: str
    ) -> None:
        if sock.connect_ex(address) != 0:
            await writable(sock)
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "cannot connect to the relay's own listener")
        if tunnel.key[0] == "http":
            request = f"GET / HTTP/1.1\r\nHost: {tunnel.host}:{tunnel.port}\r\nConnection: close\r\n\r\n"
            await send_all(sock, request.encode())
        answer = b""
        while nonce.encode() not in answer:
            piece = await receive(sock, MAX_ANSWER)
            answer += piece
            if not piece or len(answer) > MAX_ANSWER:
                raise OSError(f"an answer from somebody else: {answer[:60]!r}")

    async def resolves(self, host: str) -> bool:
        """Whether the public name ``host`` resolves here. A time-out counts as no."""
        try:
            return bool(await self._resolver.resolve(host, 0))
        except DialError:
            return False
