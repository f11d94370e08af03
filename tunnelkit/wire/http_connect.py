"""The client's side of HTTP CONNECT (RFC 9110 §9.3.6): bytes in, bytes out."""

from __future__ import annotations

import re
from base64 import b64encode

from tunnelkit.errors import InvalidTargetError, OutboundProxyError
from tunnelkit.wire.address import Endpoint, parse_port

__all__ = ["HttpConnectClient"]

MAX_HEAD = 8 * 1024
"""Bytes of a reply's head: what HTTP servers commonly allow. A longer one is no answer to CONNECT."""

MAX_REASON = 60
"""Characters of the proxy's reason phrase that an error shows."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r\n")


class HttpConnectClient:
    """One CONNECT to ``host:port``; the contract is that of :class:`~tunnelkit.wire.socks.Socks5Client`.

    ``username`` and ``password`` go along as Basic credentials (RFC 7617), unasked for.
    """

    def __init__(
        self, host: str, port: int, username: str | None = None, password: str | None = None
    ) -> None:
        authority = str(Endpoint(host, parse_port(port)))
        if not host or not re.fullmatch("[!-~]+", authority):
            raise InvalidTargetError(f"Not a host for CONNECT: {host[:253]!r}")
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if username is not None:
            credentials = b64encode(f"{username}:{password or ''}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {credentials}")
        self.done = False
        self.rest = b""
        self._outgoing = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
        self._incoming = bytearray()

    def data_to_send(self) -> bytes:
        """What has to be sent now; empty while the proxy has to speak."""
        data, self._outgoing = self._outgoing, b""
        return data

    def receive(self, data: bytes) -> None:
        """Take bytes from the proxy, ``b""`` at their end."""
        if self.done:
            self.rest += data
            return
        if not data:
            raise OutboundProxyError("The proxy closed the connection without an answer to CONNECT")
        searched = max(0, len(self._incoming) - 3)
        self._incoming += data
        while (end := self._incoming.find(b"\r\n\r\n", searched)) >= 0:
            head = bytes(self._incoming[: end + 4])
            del self._incoming[: end + 4]
            searched = 0
            if _is_final(head):
                self.done = True
                self.rest = bytes(self._incoming)
                return
        if len(self._incoming) > MAX_HEAD:
            raise _too_long()


def _is_final(head: bytes) -> bool:
    """Whether the proxy has connected; False for an interim answer, an error for any other."""
    if len(head) > MAX_HEAD:
        raise _too_long()
    match = _STATUS_LINE.match(head)
    if match is None:
        raise OutboundProxyError("The proxy does not answer CONNECT in HTTP/1")
    status = int(match[1])
    if status == 407:
        raise OutboundProxyError(
            "The proxy answered 407: it wants other credentials",
            hint="Put them in its URL: http://USER:PASSWORD@HOST:PORT",
        )
    if status >= 300:
        raise OutboundProxyError(f"The proxy answered {status} {_shown(match[2])}".rstrip())
    return status >= 200


def _too_long() -> OutboundProxyError:
    return OutboundProxyError(f"The proxy's answer has a head of over {MAX_HEAD} bytes")


def _shown(reason: bytes | None) -> str:
    text = (reason or b"").decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_REASON].strip()
