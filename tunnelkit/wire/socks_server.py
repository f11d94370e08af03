"""SOCKS 4, 4a and 5 as a proxy sees them: bytes in, events and bytes out.

SOCKS4 and 4a are Ying-Da Lee's memos (``socks4.protocol``, ``socks4a.protocol``); SOCKS5 is
RFC 1928, its user names and passwords RFC 1929.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from tunnelkit.errors import ProtocolError, ProxyAuthError
from tunnelkit.wire.address import IpAddress, ip_address
from tunnelkit.wire.socks import (
    AUTH_VERSION,
    CONNECT,
    DOMAIN,
    IPV4,
    IPV6,
    MAX_FIELD,
    NO_ACCEPTABLE,
    NO_AUTH,
    PASSWORD,
    VERSION,
)

__all__ = ["Datagram", "Login", "Request", "SocksServer", "datagram_header", "parse_datagram"]

VERSION_4: Literal[4] = 4
UDP_ASSOCIATE = 0x03

GRANTED_4 = 90
REJECTED_4 = 91

GENERAL_FAILURE = 1
NOT_ALLOWED = 2
NETWORK_UNREACHABLE = 3
HOST_UNREACHABLE = 4
REFUSED = 5
TTL_EXPIRED = 6
COMMAND_NOT_SUPPORTED = 7
ADDRESS_TYPE_NOT_SUPPORTED = 8

REPLY_FOR = MappingProxyType(
    {
        "destination_denied": NOT_ALLOWED,
        "exit_not_allowed": NOT_ALLOWED,
        "user_limit": NOT_ALLOWED,
        "destination_unreachable": NETWORK_UNREACHABLE,
        "destination_unresolved": HOST_UNREACHABLE,
        "invalid_target": HOST_UNREACHABLE,
        "destination_refused": REFUSED,
        "destination_timeout": TTL_EXPIRED,
        "timeout": TTL_EXPIRED,
        "family_not_pinned": ADDRESS_TYPE_NOT_SUPPORTED,
        "command": COMMAND_NOT_SUPPORTED,
        "address_type": ADDRESS_TYPE_NOT_SUPPORTED,
    }
)
"""The reply of RFC 1928 §6 for the code of an error; all others are a general failure."""

MAX_PENDING = 64 * 1024
"""Bytes kept for a client that goes on sending while its password is judged: a few segments."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and a password to judge: :meth:`SocksServer.accept_login` or ``refuse_login``."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What the client wants; :meth:`SocksServer.succeed` or ``fail`` ends the handshake.

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
        self._login_required = login_required
        self._incoming = bytearray()
        self._outgoing = b""
        self._version: Literal[4, 5] = VERSION
        # A function, not a method of this object: that would be a cycle for the garbage collector.
        self._step: Callable[[SocksServer], Login | Request | bool] = SocksServer._read_version
        self._done = False

    def data_to_send(self) -> bytes:
        """What has to be sent now."""
        data, self._outgoing = self._outgoing, b""
        return data

    def receive(self, data: bytes) -> Login | Request | None:
        """Take bytes from the client, not empty ones. None: more are needed."""
        if self._done:
            self.rest += data
            return None
        self._incoming += data
        return self._read()

    def accept_login(self) -> Request | None:
        """The user may go on; the request, if it has come already."""
        self._outgoing += bytes([AUTH_VERSION, 0])
        self._step = SocksServer._read_request
        event = self._read()
        assert not isinstance(event, Login)
        return event

    def refuse_login(self) -> None:
        """The user may not go on: send and close."""
        self._outgoing += bytes([AUTH_VERSION, 1])

    def succeed(self, host: str = "", port: int = 0) -> None:
        """Grant the request. ``host``, ``port``: where the connection leaves from, or where the proxy
        takes datagrams; empty if that is not known. SOCKS4 is told of IPv4 alone."""
        address = ip_address(host)
        if self._version == VERSION:
            self._outgoing += bytes([VERSION, 0, 0]) + _packed(address) + port.to_bytes(2)
        else:
            packed = address.packed if address is not None and address.version == 4 else bytes(4)
            self._outgoing += bytes([0, GRANTED_4]) + port.to_bytes(2) + packed

    def fail(self, code: str) -> None:
        """Refuse the request, with the protocol's own reply for ``code``, one of our errors'."""
        if self._version == VERSION:
            reply = REPLY_FOR.get(code, GENERAL_FAILURE)
            self._outgoing += bytes([VERSION, reply, 0]) + _packed(None) + bytes(2)
        else:
            self._outgoing += bytes([0, REJECTED_4]) + bytes(6)

    # --- steps: each takes what is whole and sets the next; False: more bytes are needed ----------

    def _read(self) -> Login | Request | None:
        event: Login | Request | bool = True
        while event is True:
            event = self._step(self)
        if isinstance(event, Request):
            self._done = True
            self.rest = bytes(self._incoming)
            self._incoming.clear()
        return event or None

    def _read_version(self) -> bool:
        version = self._incoming[0]
        if version == VERSION:
            self._step = SocksServer._read_methods
        elif version == VERSION_4:
            self._version = VERSION_4
            self._step = SocksServer._read_request_4
        else:
            raise ProtocolError(f"The client speaks no SOCKS: its first byte is {version}", hint="")
        return True

    def _read_methods(self) -> bool:
        incoming = self._incoming
        if len(incoming) < 2 or len(incoming) < (end := 2 + incoming[1]):
            return False
        methods = bytes(incoming[2:end])
        del incoming[:end]
        if NO_AUTH in methods and not self._login_required:
            method, self._step = NO_AUTH, SocksServer._read_request
        elif PASSWORD in methods:
            method, self._step = PASSWORD, SocksServer._read_login
        else:
            self._outgoing += bytes([VERSION, NO_ACCEPTABLE])
            if methods and self._login_required:
                raise ProxyAuthError("The client offers no user name and password")
            raise ProtocolError("The client offers no authentication that is known here", hint="")
        self._outgoing += bytes([VERSION, method])
        return True

    def _read_login(self) -> Login | bool:
        incoming = self._incoming
        if incoming and incoming[0] != AUTH_VERSION:
            self.refuse_login()
            raise ProxyAuthError("The client skipped the user name and password")
        if len(incoming) < 2 or len(incoming) <= (name_end := 2 + incoming[1]):
            return False
        end = name_end + 1 + incoming[name_end]
        if len(incoming) < end:
            return False
        name, password = bytes(incoming[2:name_end]), bytes(incoming[name_end + 1 : end])
        del incoming[:end]
        if not self._login_required:  # the client has nothing else to offer
            self._outgoing += bytes([AUTH_VERSION, 0])
            self._step = SocksServer._read_request
            return True
        if not name or not password:  # RFC 1929 §2: both have 1 to 255 bytes
            self.refuse_login()
            raise ProxyAuthError("The client sent an empty user name or password")
        self._step = SocksServer._wait_for_verdict
        return Login(name.decode(errors="surrogateescape"), password.decode(errors="surrogateescape"))

    def _wait_for_verdict(self) -> bool:
        if len(self._incoming) > MAX_PENDING:
            raise ProtocolError("The client sends too much before its password is accepted", hint="")
        return False

    def _read_request(self) -> Request | bool:
        incoming = self._incoming
        if len(incoming) < 5:
            return False
        version, command, _, kind = incoming[:4]
        if version != VERSION:
            raise ProtocolError(f"The client's SOCKS5 request has the version {version}", hint="")
        if command not in (CONNECT, UDP_ASSOCIATE):
            self.fail("command")
            raise ProtocolError(f"The client asks for the SOCKS5 command {command}", hint=_COMMANDS)
        if kind not in _SIZES:
            self.fail("address_type")
            raise ProtocolError(f"The client sent the unknown address type {kind}", hint="")
        start, end = _span(kind, incoming[4], offset=4)
        if len(incoming) < end + 2:
            return False
        host = _host(kind, incoming[start:end])
        if host is None:
            self.fail("invalid_target")
            raise ProtocolError("The client sent a name that is no text", hint="")
        port = int.from_bytes(incoming[end : end + 2])
        del incoming[: end + 2]
        return Request("connect" if command == CONNECT else "udp", host, port, VERSION)

    def _read_request_4(self) -> Request | bool:
        incoming = self._incoming
        command = CONNECT if len(incoming) < 2 else incoming[1]
        if command != CONNECT:
            self.fail("command")
            raise ProtocolError(f"The client asks for the SOCKS4 command {command}", hint=_COMMANDS)
        user_end = self._end_of_text(8, "user id")
        if user_end is None:
            return False
        end = user_end
        host = ".".join(map(str, incoming[4:8]))
        if incoming[4:7] == b"\0\0\0" and incoming[7]:  # SOCKS4a: the name follows
            name_end = self._end_of_text(user_end + 1, "name")
            if name_end is None:
                return False
            end = name_end
            name = _host(DOMAIN, incoming[user_end + 1 : end])
            if name is None:
                self.fail("invalid_target")
                raise ProtocolError("The client sent a name that is no text", hint="")
            host = name
        if self._login_required:
            self.fail("proxy_auth_failed")
            raise ProxyAuthError("The client speaks SOCKS4, which has no passwords")
        port = int.from_bytes(incoming[2:4])
        user_id = incoming[8:user_end].decode(errors="replace")
        del incoming[: end + 1]
        return Request("connect", host, port, VERSION_4, user_id)

    def _end_of_text(self, start: int, what: str) -> int | None:
        """Where the zero byte behind the text at ``start`` is; None: not here yet."""
        end = self._incoming.find(0, start, start + MAX_FIELD + 1)
        if end < 0 and len(self._incoming) > start + MAX_FIELD:
            self.fail("too_long")
            raise ProtocolError(f"The client sent a {what} of over {MAX_FIELD} bytes", hint="")
        return end if end >= 0 else None


_COMMANDS = "This proxy does CONNECT, and UDP ASSOCIATE in SOCKS5"


# --- addresses ----------------------------------------------------------------------------------

_SIZES = MappingProxyType({IPV4: 4, IPV6: 16, DOMAIN: None})
"""Bytes of an address by its type; a name's are in the byte before it."""


def _span(kind: int, first: int, *, offset: int) -> tuple[int, int]:
    """Where the address starts and ends whose first byte, at ``offset``, is ``first``."""
    size = _SIZES[kind]
    return (offset + 1, offset + 1 + first) if size is None else (offset, offset + size)


def _host(kind: int, data: bytes | bytearray | memoryview) -> str | None:
    """The host that ``data`` is; None if it is no text."""
    if kind == IPV4:
        return ".".join(map(str, data))
    if kind == IPV6:
        return str(ipaddress.IPv6Address(bytes(data)))
    try:
        return bytes(data).decode() or None
    except UnicodeDecodeError:
        return None


def _packed(address: IpAddress | None) -> bytes:
    if address is None:
        return bytes([IPV4, 0, 0, 0, 0])
    return bytes([IPV4 if address.version == 4 else IPV6]) + address.packed


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
    view = memoryview(data)
    if len(view) < 5 or view[3] not in _SIZES:
        raise ProtocolError("A datagram without a SOCKS5 header", hint="")
    kind = view[3]
    start, end = _span(kind, view[4], offset=4)
    host = _host(kind, view[start:end]) if len(view) >= end + 2 else None
    if host is None:
        raise ProtocolError("A datagram with half a SOCKS5 header", hint="")
    return Datagram(host, int.from_bytes(view[end : end + 2]), view[end + 2 :], view[2])


def datagram_header(host: str, port: int) -> bytes:
    """What stands before the payload of a datagram from the numeric address ``host``."""
    return bytes(3) + _packed(ip_address(host)) + port.to_bytes(2)
