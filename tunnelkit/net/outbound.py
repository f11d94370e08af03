"""The way from an agent to its relay: straight, or through the proxy that the environment names."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

from tunnelkit.errors import InvalidError, OutboundProxyError
from tunnelkit.net.dial import DialError, Resolver, dial
from tunnelkit.net.sockets import receive, send_all
from tunnelkit.wire.address import Endpoint, ip_address, is_loopback
from tunnelkit.wire.http_connect import HttpConnectClient
from tunnelkit.wire.socks import Socks5Client

__all__ = ["ProxyUrl", "dial_relay", "proxy_for", "shake_hands"]

READ_SIZE = 4096
"""Bytes of one receive in a proxy's handshake, whose answers are short."""

_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}


class ProxyClient(Protocol):
    """A handshake with a proxy, without its socket: see :class:`Socks5Client`."""

    done: bool
    rest: bytes

    def data_to_send(self) -> bytes: ...
    def receive(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """An HTTP or SOCKS5 proxy. Its text and its ``repr`` never hold the credentials.

    ``socks5`` and ``socks5h`` are the same here: the proxy resolves the relay's name, for behind such
    a proxy there is often nobody else who could.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{Endpoint(self.host, self.port)}"

    @classmethod
    def parse(cls, text: str, *, what: str = "The proxy") -> Self:
        """``[SCHEME://][USER[:PASSWORD]@]HOST[:PORT]``; ``http`` without a scheme.

        InvalidError, which does not show ``text`` but names it as ``what``.
        """
        text = text.strip()
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme == "https":
            raise InvalidError(f"{what} is spoken to over TLS, which is not supported", hint=_HINT)
        if parts.scheme not in _PORTS or not host or port == 0 or parts.path not in ("", "/"):
            raise InvalidError(f"{what} is not the address of a proxy", hint=_HINT)
        username = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], username, password)

    def client(self, host: str, port: int) -> ProxyClient:
        """The handshake by which this proxy connects to ``host:port``."""
        kind = HttpConnectClient if self.scheme == "http" else Socks5Client
        return kind(host, port, self.username, self.password)


_HINT = "Give http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ if need be"


# --- which proxy --------------------------------------------------------------------------------


def proxy_for(
    url_scheme: str, host: str, environ: Mapping[str, str], *, port: int | None = None
) -> ProxyUrl | None:
    """The proxy that ``environ`` names for ``url_scheme://host``; None to go straight.

    ``HTTPS_PROXY`` is for https and wss, ``HTTP_PROXY`` for http and ws, ``ALL_PROXY`` for what is
    left; ``NO_PROXY`` lists what goes straight. Names in lower case count first. This machine is
    never behind a proxy. InvalidError for a value that is no proxy.
    """
    if is_loopback(host) or _is_exempt(host, port, _variable(environ, "NO_PROXY")):
        return None
    own = {"https": "HTTPS_PROXY", "wss": "HTTPS_PROXY", "http": "HTTP_PROXY", "ws": "HTTP_PROXY"}
    for name in (own.get(url_scheme), "ALL_PROXY"):
        if name and (value := _variable(environ, name)):
            return ProxyUrl.parse(value, what=name)
    return None


def _variable(environ: Mapping[str, str], name: str) -> str:
    if name.lower() in environ:
        return environ[name.lower()].strip()  # empty: not even the one in upper case
    if name == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
        return ""  # under CGI it is a visitor's Proxy header (CVE-2016-5385)
    return environ.get(name, "").strip()


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether an entry of ``no_proxy`` covers ``host``: a domain, address or network, or ``*``."""
    host = host.lower().removesuffix(".")
    return any(_covers(entry, host, port) for entry in re.split(r"[\s,]+", no_proxy.lower()))


def _covers(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    address = ip_address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass  # an entry with a port, or a name
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal():
        if port != int(number):
            return False
        entry = name.strip("[]")
    domain = entry.removeprefix("*").removeprefix(".").removesuffix(".")
    return bool(domain) and (host == domain or (address is None and host.endswith(f".{domain}")))


# --- dialling -----------------------------------------------------------------------------------


async def dial_relay(
    host: str, port: int, *, proxy: ProxyUrl | None, resolver: Resolver, timeout: float
) -> tuple[socket.socket, bytes]:
    """A connection to ``host:port``, through ``proxy`` if there is one, and what came on it already.

    Within ``timeout`` seconds. :class:`DialError` where there is no way to the relay itself,
    :class:`OutboundProxyError` for all that happens at the proxy.
    """
    if proxy is None:
        return await dial(Endpoint(host, port), resolver=resolver, timeout=timeout), b""
    client = proxy.client(host, port)
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        sock = await dial(Endpoint(proxy.host, proxy.port), resolver=resolver, timeout=timeout)
    except DialError as error:
        raise OutboundProxyError(f"No connection to the proxy {proxy}: {error.reason}") from error
    try:
        async with asyncio.timeout_at(deadline):
            return sock, await shake_hands(sock, client)
    except OutboundProxyError as error:
        sock.close()
        raise OutboundProxyError(f"{error.what} ({proxy})", hint=error.hint) from error
    except TimeoutError:
        sock.close()
        raise OutboundProxyError(f"The proxy did not answer in time ({proxy})") from None
    except OSError as error:
        sock.close()
        reason = error.strerror or error
        raise OutboundProxyError(f"The connection to the proxy broke: {reason} ({proxy})") from error
    except BaseException:
        sock.close()
        raise


async def shake_hands(sock: socket.socket, client: ProxyClient) -> bytes:
    """Run the handshake; what came behind it. Raises OutboundProxyError and OSError."""
    while not client.done:
        await send_all(sock, client.data_to_send())
        client.receive(await receive(sock, READ_SIZE))
    return client.rest
