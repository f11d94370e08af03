"""Connections from an agent to its relay: through a proxy if need be, with TLS, shaken hands."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.net.dial import DialError
from tunnelkit.net.outbound import dial_relay, proxy_for
from tunnelkit.net.resolve import Resolver
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tls import TlsSocket, check_fingerprint, client_context
from tunnelkit.transport.websocket import Handshake, WebSocketProtocol, connect
from tunnelkit.wire.address import is_loopback
from tunnelkit.wire.messages import CHANNEL_PATH, CONTROL_PATH, EGRESS_PATH, SESSION_HEADER
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["CONNECT_TIMEOUT", "Dialer", "WebSocketDialer"]

CONNECT_TIMEOUT = 10.0
"""Seconds for one connection to the relay, all handshakes included."""


class Dialer:
    """TCP connections to one relay, straight or through the proxy that ``environ`` names."""

    def __init__(self, url: RelayUrl, environ: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.resolver = Resolver()
        self.proxy = proxy_for(url.scheme, url.host, os.environ if environ is None else environ)

    async def dial(self) -> tuple[socket.socket, bytes]:
        """A connection, and what came on it already. DialError, OutboundProxyError, OSError."""
        return await dial_relay(
            self.url.host, self.url.port, proxy=self.proxy, resolver=self.resolver, timeout=CONNECT_TIMEOUT
        )

    def not_reached(self, error: OSError) -> errors.RelayUnreachableError:
        """What ``error`` of :meth:`dial` or of a handshake means to a person."""
        if isinstance(error, TimeoutError):
            return errors.RelayUnreachableError(f"The relay at {self.url} did not answer in time")
        if isinstance(error, DialError):
            return errors.RelayUnreachableError(f"The relay at {self.url} cannot be reached: {error}")
        return errors.RelayUnreachableError(
            f"The connection to the relay at {self.url} broke: {error.strerror or error}"
        )

    def close(self) -> None:
        """Let the resolver go."""
        self.resolver.close()


class WebSocketDialer(Dialer):
    """WebSocket connections. ``fingerprint`` pins the certificate; ``ca`` is a file of authorities."""

    def __init__(
        self,
        url: RelayUrl,
        token: str,
        *,
        ca: str | None = None,
        fingerprint: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, environ)
        self.random_mask = not url.secure and not is_loopback(url.host)
        """RFC 6455 §10.3: what an intermediary on plain text could read must not be predictable."""
        self._token = token
        self._fingerprint = fingerprint
        self._session: ssl.SSLSession | None = None  # of the last connection: the next costs no signature
        self._context: ssl.SSLContext | None = client_context(ca, fingerprint) if url.secure else None

    def __repr__(self) -> str:
        return f"<WebSocketDialer to {self.url}>"

    async def control(self) -> tuple[AnySocket, WebSocketProtocol, bytes]:
        """Open a control connection: its socket, its protocol, what came behind the handshake."""
        return await self._open(CONTROL_PATH, {})

    async def channel(
        self, session: str, secret: str, number: int, *, egress: bool = False
    ) -> tuple[AnySocket, bytes]:
        """Open data channel ``number`` of a session: its socket, and what came behind the handshake.

        On an ``egress`` channel this side opens the streams.
        """
        path = EGRESS_PATH if egress else CHANNEL_PATH
        sock, _, rest = await self._open(path, {SESSION_HEADER: f"{session}:{secret}:{number}"})
        return sock, rest

    async def _open(self, path: str, headers: dict[str, str]) -> tuple[AnySocket, WebSocketProtocol, bytes]:
        url = self.url
        headers = {"User-Agent": f"tunnelkit/{__version__}", **headers}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        sock: AnySocket | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                sock = await self._connect()
                handshake = Handshake(url.host, url.port, path, url.secure, headers)
                protocol, rest = await connect(sock, handshake)
        except OSError as error:
            raise self.not_reached(error) from None
        else:
            opened, sock = sock, None
            if isinstance(opened, TlsSocket):
                self._session = opened.session
            return opened, protocol, rest
        finally:
            if sock is not None:
                sock.close()

    async def _connect(self) -> AnySocket:
        url = self.url
        sock, received = await self.dial()
        if self._context is None:
            if received:
                sock.close()
                raise errors.NotARelayError(f"What answers at {url} speaks first, which no relay does")
            return sock
        tls = TlsSocket(
            sock,
            self._context,
            server_side=False,
            server_hostname=url.host,
            received=received,
            session=self._session,
        )
        try:
            await tls.handshake(CONNECT_TIMEOUT)
            if self._fingerprint:
                check_fingerprint(tls, self._fingerprint)
        except BaseException:
            tls.close()
            raise
        return tls
