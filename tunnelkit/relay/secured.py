"""What a relay with certificates asks of visitors, and tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunnelkit.errors import NotARelayError
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tls import TlsSocket
from tunnelkit.relay.pages import error_page
from tunnelkit.transport.websocket import Refusal, handshake_refused
from tunnelkit.wire.address import is_loopback
from tunnelkit.wire.http_head import RequestHead

__all__ = ["RelayTls", "Secured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTls:
    """How a relay speaks TLS, at the addresses that it shares with HTTP and SSH."""

    certificates: Sequence[tuple[str, str]]
    """Files (PEM) with a certificate and its chain, each with the file of its key. They are chosen by
    the name that a client asks for, and read again when they change."""
    plain_http: bool = False
    """Whether visitors without TLS are served too, instead of being sent to ``https://``."""
    hsts: int = 0
    """Seconds for which browsers are told to come with TLS only (RFC 6797); 0: they are not."""


class Secured:
    """``tls`` as a rule for requests; ``main_port()`` is the port in the URLs of tunnels."""

    def __init__(self, tls: RelayTls, main_port: Callable[[], int]) -> None:
        self.plain_http = tls.plain_http
        self._hsts = f"Strict-Transport-Security: max-age={tls.hsts}\r\n\r\n".encode() if tls.hsts else b""
        self._main_port = main_port

    def turned_away(self, sock: AnySocket, visitor: str, head: RequestHead, *, agent: bool) -> bytes:
        """The answer to a request that came the wrong way; empty if it may go on.

        ``visitor`` is its address; ``agent``: it is the handshake of an agent.
        """
        if isinstance(sock, TlsSocket):
            name = sock.server_name
            if name and head.host_name != name:  # the certificate was another name's (RFC 9110 §15.5.20)
                return error_page(421, "misdirected", what=f"This connection is for {name} alone")
            return b""
        if agent and not is_loopback(visitor):
            error = NotARelayError("The relay takes agents over TLS only", hint="Give wss:// in its address")
            return handshake_refused(Refusal(403, error))
        if agent or self.plain_http:
            return b""
        return self._redirect(sock, head)

    def _redirect(self, sock: AnySocket, head: RequestHead) -> bytes:
        """To the same place over TLS; 308 keeps the method (RFC 9110 §15.4.9)."""
        if not head.host_name:
            return error_page(400, "http_head", what="This address takes TLS only")
        _, colon, port = head.host.rpartition(b":")
        number = int(port) if colon and port.isdigit() else 80
        if number == 80:  # TLS has another port, the one that is in the URLs of tunnels
            number = self._main_port()
        where = head.host_name if number == 443 else f"{head.host_name}:{number}"
        path = head.target.decode("latin-1") if head.target.startswith(b"/") else "/"
        return (
            f"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://{where}{path}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        ).encode("latin-1")

    def with_hsts(self, head: bytes) -> bytes:
        """A response's ``head``, with the word about TLS in it if its service has none of its own."""
        if not self._hsts or b"\r\nstrict-transport-security:" in head.lower():
            return head
        return head[:-2] + self._hsts
