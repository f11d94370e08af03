"""SOCKS5 (RFC 1928) with user names and passwords (RFC 1929): bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Generator
from types import MappingProxyType
from typing import Literal

from tunnelkit.errors import InvalidError, InvalidTargetError, OutboundProxyError
from tunnelkit.wire.address import ip_address, parse_port

__all__ = ["REPLIES", "Socks5Client"]

VERSION: Literal[5] = 5
AUTH_VERSION = 1
"""Version of the sub-negotiation (RFC 1929 §2)."""

NO_AUTH = 0x00
PASSWORD = 0x02
NO_ACCEPTABLE = 0xFF

CONNECT = 0x01

IPV4 = 0x01
DOMAIN = 0x03
IPV6 = 0x04

REPLIES = MappingProxyType(
    {
        0: "succeeded",
        1: "general failure",
        2: "not allowed by its rules",
        3: "network unreachable",
        4: "host unreachable",
        5: "connection refused",
        6: "time to live expired",
        7: "command not supported",
        8: "address type not supported",
    }
)
"""What a reply code means (RFC 1928 §6)."""

MAX_FIELD = 255
"""Bytes of a name, a user name or a password: each has one byte for its length."""


# --- client -------------------------------------------------------------------------------------


class Socks5Client:
    """One CONNECT to ``host:port``, as the proxy's client sees it.

    Send what :meth:`data_to_send` returns, first of all and again after each :meth:`receive`; pass
    whatever arrives to :meth:`receive`, in any pieces, and ``b""`` at the end. Once :attr:`done` the
    connection belongs to ``host:port``, and :attr:`rest` is what it has sent already.

    A name is sent as a name: the proxy resolves it. :class:`OutboundProxyError` where the proxy says
    no or speaks something else; a name, user name or password of over 255 bytes is an
    :class:`InvalidError`.
    """

    def __init__(
        self, host: str, port: int, username: str | None = None, password: str | None = None
    ) -> None:
        self.done = False
        self.rest = b""
        self._request = bytes([VERSION, CONNECT, 0]) + _address(host) + parse_port(port).to_bytes(2)
        self._login = b""
        if username is not None:
            fields = (
                _field(username.encode(), "user name"),
                _field((password or "").encode(), "password"),
            )
            self._login = bytes([AUTH_VERSION]) + b"".join(fields)
        self._instead_of = "in the handshake"
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._steps = self._run()
        self._wanted = next(self._steps)

    def data_to_send(self) -> bytes:
        """What has to be sent now; empty while the proxy has to speak first."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Take bytes from the proxy."""
        if self.done:
            self.rest += data
            return
        if not data:
            raise OutboundProxyError(f"The SOCKS5 proxy closed the connection {self._instead_of}")
        self._incoming += data
        while len(self._incoming) >= self._wanted:
            taken = bytes(self._incoming[: self._wanted])
            del self._incoming[: self._wanted]
            try:
                self._wanted = self._steps.send(taken)
            except StopIteration:
                self.done = True
                self.rest = bytes(self._incoming)
                return

    def _run(self) -> Generator[int, bytes, None]:
        """The exchange, top to bottom: yields how many bytes come next and is sent them."""
        methods = bytes([NO_AUTH, PASSWORD] if self._login else [NO_AUTH])
        self._outgoing += bytes([VERSION, len(methods)]) + methods
        version, method = yield 2
        _check_version(version)
        if method not in methods:
            raise _no_method(method, offered_login=bool(self._login))
        if method == PASSWORD:
            self._outgoing += self._login
            _, status = yield 2  # some proxies put a 5 where RFC 1929 has the version 1
            if status:
                raise OutboundProxyError("The SOCKS5 proxy does not accept the user name and password")

        self._outgoing += self._request
        self._instead_of = "instead of connecting"  # what OpenSSH does for a refusal
        # Two bytes tell a refusal; some proxies close behind them without the rest of the reply.
        version, code = yield 2
        _check_version(version)
        if code:
            meaning = REPLIES.get(code, "unassigned")
            raise OutboundProxyError(f"The SOCKS5 proxy answered {code}: {meaning}")
        _, kind = yield 2
        if kind == DOMAIN:
            (length,) = yield 1
        elif kind in (IPV4, IPV6):
            length = 4 if kind == IPV4 else 16
        else:
            raise OutboundProxyError(f"The SOCKS5 proxy sent the unknown address type {kind}")
        yield length + 2


def _check_version(version: int) -> None:
    if version != VERSION:
        raise OutboundProxyError("The proxy does not speak SOCKS5")


def _no_method(method: int, *, offered_login: bool) -> OutboundProxyError:
    if method != NO_ACCEPTABLE:
        return OutboundProxyError(f"The SOCKS5 proxy chose the method {method}, which was not offered")
    if offered_login:
        return OutboundProxyError("The SOCKS5 proxy wants another authentication than a password")
    return OutboundProxyError(
        "The SOCKS5 proxy wants a user name and a password",
        hint="Put them in its URL: socks5://USER:PASSWORD@HOST",
    )


def _address(host: str) -> bytes:
    address = ip_address(host)
    if address is not None:
        return bytes([IPV4 if address.version == 4 else IPV6]) + address.packed
    if not host or not host.isascii() or len(host) > MAX_FIELD:
        raise InvalidTargetError(f"Not a host for SOCKS5: {host[:MAX_FIELD]!r}")
    return bytes([DOMAIN]) + _field(host.encode(), "host")


def _field(value: bytes, what: str) -> bytes:
    if len(value) > MAX_FIELD:
        raise InvalidError(f"A {what} for SOCKS5 has at most {MAX_FIELD} bytes")
    return bytes([len(value)]) + value
