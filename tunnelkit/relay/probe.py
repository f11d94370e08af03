"""Proof that a new tunnel works: one visit to its public address, before anybody is told of it.

The relay connects to its own public listener like any visitor and sends nothing it could not. The
ingress recognises the connection by its source address and passes a one-time nonce to the agent,
which answers with it instead of dialling the service (which may start later).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from typing import Any

from tunnelkit.errors import TunnelTimeoutError
from tunnelkit.net.dial import DialError, Resolver
from tunnelkit.net.ready import writable
from tunnelkit.net.sockets import AnySocket, receive, send_all
from tunnelkit.net.tls import TlsSocket
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
        try:
            with _visitor_of(host) as sock:
                await self._recognised(sock, (sock.getsockname()[0], port), tunnel, nonce)
        except (TimeoutError, OSError) as error:
            raise TunnelTimeoutError(
                f"The probe of {tunnel.url} did not come round ({str(error) or 'time-out'})",
                hint="Try again; if it stays so, the connection between agent and relay loses data",
            ) from error

    async def _recognised(
        self, sock: socket.socket, address: tuple[str, int], tunnel: RelayTunnel, nonce: str
    ) -> None:
        host, from_port = sock.getsockname()[:2]
        # The second is how a listener for IPv4 and IPv6 together sees an IPv4 address.
        sources = [(host, from_port), (f"::ffff:{host}", from_port)]
        self.expected.update(dict.fromkeys(sources, nonce))
        try:
            async with asyncio.timeout(self._timeout):
                await self._visit(sock, address, tunnel, nonce)
        finally:
            for source in sources:
                del self.expected[source]

    async def _visit(
        self, sock: socket.socket, address: tuple[str, int], tunnel: RelayTunnel, nonce: str
    ) -> None:
        if sock.connect_ex(address) != 0:
            await writable(sock)
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "cannot connect to the relay's own listener")
        way: AnySocket = sock
        if tunnel.url.startswith("https:"):
            way = TlsSocket(sock, _anybody(), server_side=False, server_hostname=tunnel.host)
            await way.handshake(self._timeout)
        if tunnel.key[0] == "http":
            request = f"GET / HTTP/1.1\r\nHost: {tunnel.host}:{tunnel.port}\r\nConnection: close\r\n\r\n"
            await send_all(way, request.encode())
        answer = b""
        while nonce.encode() not in answer:
            piece = await receive(way, MAX_ANSWER)
            answer += piece
            if not piece or len(answer) > MAX_ANSWER:
                raise OSError(f"an answer from somebody else: {answer[:60]!r}")

    async def resolves(self, host: str) -> bool:
        """Whether the public name ``host`` resolves here. A time-out counts as no."""
        try:
            return bool(await self._resolver.resolve(host, 0))
        except DialError:
            return False


def _anybody() -> ssl.SSLContext:
    """Whoever is there: the nonce proves more than a certificate would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _visitor_of(host: str) -> socket.socket:
    """A socket that is bound where it can visit a listener on ``host``."""
    wildcards = {"0.0.0.0": ["127.0.0.1"], "::": ["::1", "127.0.0.1"], "": ["127.0.0.1"]}
    last = OSError("no address to probe from")
    for source in wildcards.get(host, [host]):  # a machine may have IPv6 disabled
        sock = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind((source, 0))
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last
