"""What clients ask an HTTP proxy for: CONNECT, and requests whose target is a whole URL.

Both are read with the strictness of :mod:`tunnelkit.wire.http_head`. The target alone says where a
request goes: a Host that says otherwise is replaced by it (RFC 9112 §3.2.2).
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Final, NamedTuple

from tunnelkit.wire.http_fields import PLAIN_REQUEST, SPECIAL_REQUEST, HeadError, read_lines
from tunnelkit.wire.http_head import RequestHead, parse_request, read_host

__all__ = ["CONNECT", "Connect", "Forward", "basic_credentials", "parse_connect", "parse_forward"]

CONNECT: Final = b"CONNECT "
"""What the head of a CONNECT begins with; all others are for :func:`parse_forward`."""

_URL: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class Connect(NamedTuple):
    """A CONNECT (RFC 9110 §9.3.6)."""

    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    authorization: bytes
    """The value of Proxy-Authorization; empty if there is none."""


class Forward(NamedTuple):
    """A request to pass on."""

    head: RequestHead
    """Its target is the path."""
    host: str
    port: int
    authority: bytes
    """What the request's Host has to be."""


def parse_connect(head: bytes) -> Connect:
    """The CONNECT whose head, through its blank line, is ``head``; :class:`HeadError` if it is none."""
    start, _, found = read_lines(head, PLAIN_REQUEST, SPECIAL_REQUEST)
    method, target, version = _parts(start)
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise HeadError("HTTP version other than 1.0 and 1.1", status=505)
    if method + b" " != CONNECT:
        raise HeadError("malformed request line")
    if any(name in found for name in _FRAMING):
        raise HeadError("CONNECT with a body")
    host, port = _destination(_bracketed(target), 0)
    if not port:
        raise HeadError("CONNECT without a port")
    return Connect(host, port, found.get(b"proxy-authorization", b"").strip())


def parse_forward(head: bytes, previous: RequestHead | None = None) -> Forward:
    """The request whose head, through its blank line, is ``head``; :class:`HeadError` if it is none.

    ``previous`` is as in :func:`~tunnelkit.wire.http_head.parse_request`.
    """
    end = head.find(b"\r\n")
    method, target, version = _parts(head[:end])
    url = _URL.fullmatch(target)
    if url is None:
        raise HeadError("This is a proxy, and the request's target is no URL")
    scheme, authority, path = url.groups()
    if scheme.lower() != b"http":
        raise HeadError("Requests other than for http:// go through CONNECT")
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    host, port = _destination(authority, 80)
    request = parse_request(b"%b %b %b%b" % (method, path, version, head[end:]), previous)
    return Forward(request, host, port, authority.lower())


def basic_credentials(authorization: bytes) -> tuple[str, str] | None:
    """User name and password of ``Basic`` credentials (RFC 7617); None for anything else."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _parts(line: bytes) -> tuple[bytes, bytes, bytes]:
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise HeadError("malformed request line") from None
    return method, target, version


def _bracketed(target: bytes) -> bytes:
    """``target`` with the brackets around IPv6 that httpx and Python's http.client leave out.

    As there has to be a port, the last colon is before it, and there is but one reading.
    """
    host, _, port = target.rpartition(b":")
    if b":" in host and not host.startswith(b"["):
        return b"[%b]:%b" % (host, port)
    return target


def _destination(authority: bytes, default_port: int) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``; user names before it are refused with all else."""
    host, name = read_host(authority)
    _, _, port = host.rpartition(b":") if not host.endswith(b"]") else (b"", b"", b"")
    number = int(port) if b":" in host and port else default_port
    return (name[1:-1] if name.startswith("[") else name), number
