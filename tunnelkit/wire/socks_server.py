"""SOCKS 4, 4a and 5 as a proxy sees them: bytes in, events and bytes out.

SOCKS4 and 4a are Ying-Da Lee's memos; SOCKS5 is RFC 1928, its passwords RFC 1929.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Datagram", "Login", "Request", "SocksServer", "datagram_header", "parse_datagram"]


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and a password to judge: :meth:`SocksServer.accept_login` or ``refuse_login``."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What the client wants; :meth:`SocksServer.reply` ends the handshake.

    ``host`` is as the client wrote it, and not checked: a name, or an address in its usual form.
    For ``udp`` it is where the client says its datagrams come from; zeros if it does not know.
    """

    command: Literal["connect", "udp"]
    host: str
    port: int
    version: Literal[4, 5]
    user_id: str = ""
    """What a SOCKS4 client says of itself. It proves nothing."""


class SocksServer:
    """One handshake.

    Pass what arrives to :meth:`receive`, in any pieces; send what :meth:`data_to_send` returns after
    each call of any method. :meth:`receive` returns what there is to decide, once. After a
    :class:`Request` nothing more is read here: :attr:`rest` is what came behind it, which belongs to
    the destination once there is one.

    ``login_required`` refuses those who bring no user name and password, SOCKS4 among them.

    Raises :class:`ProxyAuthError` for those, and :class:`ProtocolError` for all that is no SOCKS
    (BIND included); :meth:`data_to_send` then has the answer to send before closing.
    """

    def __init__(self, *, login_required: bool) -> None:
        self.rest = b""
        """What came behind the request."""

    def receive(self, data: bytes) -> Login | Request | None:
        """Take bytes from the client, not empty ones. None: more are needed."""
        raise NotImplementedError

    def accept_login(self) -> Request | None:
        """The user may go on; the request, if it has come already."""
        raise NotImplementedError

    def refuse_login(self) -> None:
        """The user may not go on: send and close."""
        raise NotImplementedError

    def succeed(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """Grant the request. ``host``, ``port``: where the connection leaves from, or where the
        proxy takes datagrams. SOCKS4 is told of IPv4 alone."""
        raise NotImplementedError

    def fail(self, code: str) -> None:
        """Refuse the request: with the protocol's own code for the ``code`` of one of our errors."""
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """What has to be sent now."""
        raise NotImplementedError


# --- datagrams ----------------------------------------------------------------------------------


class Datagram(NamedTuple):
    """One datagram between client and proxy (RFC 1928 §7)."""

    host: str
    port: int
    payload: memoryview
    fragment: int
    """Not 0: a part of a datagram. Who does not put parts together drops it."""


def parse_datagram(data: bytes | bytearray | memoryview) -> Datagram:
    """Take the header off. :class:`ProtocolError` for what has none."""
    raise NotImplementedError


def datagram_header(host: str, port: int) -> bytes:
    """What stands before the payload of a datagram from the numeric address ``host``."""
    raise NotImplementedError
