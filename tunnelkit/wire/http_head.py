"""HTTP/1.x heads: read strictly, written anew for the next hop (RFC 9110, RFC 9112).

One head in, one value out; there is no state in between. The caller collects bytes until
:func:`find_head_end` finds the end (before a request line it may skip one CRLF, RFC 9112 §2.2),
hands exactly those bytes to :func:`parse_request` or :func:`parse_response`, and follows the body
as ``body`` says: ``length`` bytes, or by a :class:`~tunnelkit.wire.http_body.ChunkScanner`.

What two servers could read in two ways is refused, never repaired: :class:`HeadError`, upon which
the caller answers with its ``status`` and closes, for what follows belongs to nobody. So no head
reaches a service that could mean something else there.

This is the hot path of the HTTP ingress, hence its shape: lines, control characters and names are
each found or checked by one pass in C, a field that needs no attention costs one ``partition`` and
one look-up and is forwarded as it came, and what a connection repeats is read once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from ipaddress import AddressValueError, IPv6Address
from typing import Final

import msgspec
from msgspec.structs import replace

from tunnelkit.wire.address import ip_address
from tunnelkit.wire.http_fields import (
    BAD_BYTE,
    MAX_FIELDS,
    MAX_HEAD,
    PLAIN_REQUEST,
    PLAIN_RESPONSE,
    SPECIAL_REQUEST,
    SPECIAL_RESPONSE,
    TOKEN,
    Framing,
    HeadError,
    bad_byte,
    connection_options,
    items,
    read_framing,
    read_lines,
    shown,
)

__all__ = [
    "MAX_FIELDS",
    "MAX_HEAD",
    "Framing",
    "HeadError",
    "RequestHead",
    "ResponseHead",
    "build_request",
    "build_response",
    "find_head_end",
    "forwarded_block",
    "parse_request",
    "parse_response",
    "read_host",
]

MAX_HOST: Final = len(" ") + 253 + len(".:65535")
"""Bytes in the value of Host: the longest DNS name, and what may stand around it."""

HOSTS: Final = 1024
"""Hosts whose parsed form is remembered, under 1 MiB: more than one relay has in use at a time."""


class _Head(msgspec.Struct, gc=False, kw_only=True):
    raw: bytes
    """The whole head as received."""
    start: int
    """Bytes in the start line, without its CRLF."""
    fields: bytes
    """The field lines to forward as received, each with its CRLF; what is hop-by-hop is left out."""
    version: int
    """Minor version of HTTP/1: 0 or 1."""
    body: Framing = Framing.NONE
    length: int = 0
    """Bytes in the body where ``body`` is ``LENGTH``, else 0."""
    keep_alive: bool = True
    """Whether the sender of this head takes part in another exchange on its connection."""
    added: bytes = b""
    """Hop-by-hop lines for the next hop that follow from this head, each with its CRLF."""

    @property
    def lines(self) -> list[bytes]:
        """:attr:`fields`, taken apart."""
        return self.fields.split(b"\r\n")[:-1]

    def get(self, name: bytes) -> bytes | None:
        """Value of the field ``name`` as received; repeated ones are joined by commas. Slow."""
        wanted = name.lower()
        fields = (line.partition(b":") for line in self.raw.split(b"\r\n")[1:-2])
        values = [value.strip() for field, _, value in fields if field.lower() == wanted]
        return b", ".join(values) if values else None


class RequestHead(_Head, gc=False, kw_only=True):
    """A request that was accepted. ``keep_alive`` is the visitor's wish."""

    method: bytes
    target: bytes
    """Origin-form (``/path?query``), or ``*``."""
    host: bytes
    """Host in lower case, with its port if it has one; empty if an HTTP/1.0 request had none."""
    host_name: str
    """``host`` without port and trailing dot; IPv6 addresses keep their brackets."""
    expect_continue: bool = False
    upgrade: bytes = b""
    """The protocol to switch to, in lower case; empty if none is asked for."""
    te_trailers: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sent twice it has the effect of once, and can be: RFC 9110 §9.2.2, no body."""
        return self.body is Framing.NONE and not self.upgrade and self.method in _IDEMPOTENT

    @property
    def origin(self) -> bytes | None:
        return self.get(b"origin")

    @property
    def accept(self) -> bytes:
        return self.get(b"accept") or b""


class ResponseHead(_Head, gc=False, kw_only=True):
    """A service's response. ``keep_alive``: its connection can carry another request."""

    method: bytes
    """The request's."""
    status: int
    reason: bytes
    """As received, perhaps empty."""
    upgrade: bool = False
    """Status 101: another protocol follows. Whether it was asked for is for the caller to check."""


_METHODS: Final = frozenset(b"DELETE GET HEAD OPTIONS PATCH POST PUT TRACE".split())
_IDEMPOTENT: Final = _METHODS - {b"PATCH", b"POST"}
_REQUEST_VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_KEEP_ALIVE: Final = frozenset((b" keep-alive", b" Keep-Alive"))
_NOTHING: Final[frozenset[bytes]] = frozenset()
_UPGRADING: Final = (101, 426)

_VERSION: Final = re.compile(rb"HTTP/[0-9](?:\.[0-9])?")
_HOST: Final = re.compile(
    rb"(?:([a-z0-9_-]++(?:\.[a-z0-9_-]++)*+)\.?|(\[[0-9a-f:.]{2,45}\]))(?::([1-9][0-9]{0,4}))?"
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]++)(.*)", re.IGNORECASE)
_PROTOCOL: Final = re.compile(TOKEN.pattern + rb"(?:/" + TOKEN.pattern + rb")?")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (.*))?")
_STATUS_LINES: Final = {
    f"HTTP/1.1 {status.value} {status.phrase}".encode(): (1, status.value, status.phrase.encode())
    for status in HTTPStatus
}

_TAB: Final = 0x09
_HASH: Final = 0x23
_SLASH: Final = 0x2F
_ORDINARY: Final = bytes(c if 0x20 <= c < 0x7F else 0 for c in range(256))
"""NUL for what no start line needs: controls and non-ASCII."""


def find_head_end(buffer: bytes | bytearray, start: int = 0, searched: int = 0) -> int:
    """Offset just past the blank line that ends the head at ``start``; -1 if more has to come.

    Its first ``searched`` bytes were seen by an earlier call and are not gone through again. What
    cannot become a head any more is not waited for: a control character (a TLS greeting, say), a
    bare line feed, or more than :data:`MAX_HEAD` bytes raise :class:`HeadError`.
    """
    end = buffer.find(b"\r\n\r\n", start + searched - 3 if searched > 3 else start) + 4
    if end > 3 and end - start <= MAX_HEAD:
        return end
    if bad := BAD_BYTE.search(buffer, start + searched - 1 if searched else start):
        raise bad_byte(bad[0])
    if end > 3 or len(buffer) - start >= MAX_HEAD:
        raise HeadError(f"head over {MAX_HEAD} bytes", status=431)
    return -1


# --- requests -----------------------------------------------------------------------------------


def parse_request(head: bytes, previous: RequestHead | None = None) -> RequestHead:
    """The request whose head, through its blank line, is ``head``; :class:`HeadError` if none.

    ``previous`` is the one before on the same connection, if at hand: most clients repeat their
    fields, and what is the same to the byte is not read again.
    """
    if previous is not None and head.endswith(same := previous.raw[previous.start :]):
        start = head[: -len(same)]
        if 0 not in start.translate(_ORDINARY):
            method, target, version = _request_line(start)
            if version == previous.version and target[0] == _SLASH:
                return replace(previous, raw=head, start=len(start), method=method, target=target)
    start, lines, found = read_lines(head, PLAIN_REQUEST, SPECIAL_REQUEST)
    method, target, version = _request_line(start)
    host, host_name = b"", ""
    if b"host" in found:
        host, host_name = read_host(found.pop(b"host"))
    elif version:
        raise HeadError("no Host")
    if target[0] != _SLASH:
        target = _origin_form(method, target, host)
    connection = found.pop(b"connection", b"")
    keep_alive, options = version == 1, _NOTHING
    if connection in _KEEP_ALIVE:
        keep_alive = True
    elif connection:
        keep_alive, options, lines = connection_options(connection, version, lines)
    lines.append(b"")
    request = RequestHead(
        raw=head,
        start=len(start),
        fields=b"\r\n".join(lines),
        version=version,
        keep_alive=keep_alive,
        method=method,
        target=target,
        host=host,
        host_name=host_name,
    )
    if found:
        _read_special(request, found, options)
    return request


def build_request(head: RequestHead, *, host: bytes, forwarded: bytes) -> bytes:
    """``head`` as the service gets it: HTTP/1.1, with ``host`` as its Host.

    ``forwarded`` is a :func:`forwarded_block`. Coming after all that Connection could nominate, it
    cannot be removed by the visitor.
    """
    parts = (
        head.method,
        b" ",
        head.target,
        b" HTTP/1.1\r\nHost: ",
        host,
        b"\r\n",
        head.fields,
        head.added,
        forwarded,
        b"\r\n",
    )
    return b"".join(parts)


def forwarded_block(address: str, port: int, proto: str, host: bytes) -> bytes:
    """The field lines that tell a service who its visitor is; constant for a connection and host.

    ``address`` and ``port`` are the visitor's (port 0 is left out), ``proto`` is ``http`` or
    ``https``, ``host`` is :attr:`RequestHead.host`. No IP address becomes ``unknown``. RFC 7239 §4
    wants quotes where there are colons, §6 brackets around IPv6; X-Forwarded-For has neither.
    """
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    shown_address = str(ip) if ip else "unknown"
    node = f"[{ip}]" if ip and ip.version == 6 else shown_address
    if ip and port:
        node += f":{port}"
    element = f"for={_quoted(node)};proto={proto}"
    lines = [f"X-Forwarded-For: {shown_address}", f"X-Forwarded-Proto: {proto}"]
    if host:
        visited = host.decode("ascii")
        lines.append(f"X-Forwarded-Host: {visited}")
        element += f";host={_quoted(visited)}"
    return "\r\n".join((*lines, f"Forwarded: {element}", "")).encode("ascii")


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version of a ``line`` that has no control character but tabs."""
    try:
        method, target, protocol = line.split(b" ")
    except ValueError:
        raise HeadError("malformed request line") from None
    version = _REQUEST_VERSIONS.get(protocol)
    if method not in _METHODS:
        if not TOKEN.fullmatch(method):
            raise HeadError("malformed method")
        if method in (b"CONNECT", b"PRI"):
            raise HeadError(f"{shown(method)} is not served here")
    if version is None:
        if _VERSION.fullmatch(protocol):
            raise HeadError("HTTP version other than 1.0 and 1.1", status=505)
        raise HeadError("malformed request line")
    if not target or _HASH in target or _TAB in target or not target.isascii():
        raise HeadError("malformed target")
    return method, target, version


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """RFC 9112 §3.2: ``*`` is for OPTIONS, and a URL has to name the host that Host does."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if not absolute:
        raise HeadError("target is neither a path nor a URL")
    if absolute[1].lower() != host:
        raise HeadError("target and Host name different hosts")
    rest: bytes = absolute[2]
    if not rest and method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


@lru_cache(HOSTS)
def read_host(value: bytes) -> tuple[bytes, str]:
    """``host`` and ``host_name``, stricter than RFC 3986: no escapes, no empty label or port."""
    host = value.strip().lower()
    match = _HOST.fullmatch(host)
    if not match or len(value) > MAX_HOST:
        raise HeadError("malformed Host")
    name, address, port = match.groups()
    if port and int(port) > 65535:
        raise HeadError("malformed Host")
    if name:
        return host, name.decode()
    bracketed: str = address.decode()
    try:
        IPv6Address(bracketed[1:-1])
    except AddressValueError:
        raise HeadError("malformed Host") from None
    return host, bracketed


def _read_special(request: RequestHead, found: dict[bytes, bytes], options: frozenset[bytes]) -> None:
    """Take in the rarer fields. What they have to say to the next hop is written anew."""
    length, coding = found.pop(b"content-length", None), found.pop(b"transfer-encoding", None)
    request.body, request.length = read_framing(length, coding, request.version)
    if coding is not None:
        request.added = b"Transfer-Encoding: chunked\r\n"
    if not found:
        return
    if (value := found.get(b"expect")) is not None:
        if value.strip().lower() != b"100-continue":
            raise HeadError("unknown expectation", status=417)
        # RFC 9110 §10.1.1: none in HTTP/1.0; and without a body there is nothing to hold back.
        if request.version and request.body is not Framing.NONE:
            request.expect_continue = True
            request.added += b"Expect: 100-continue\r\n"
    nominated = []
    if (value := found.get(b"upgrade")) is not None:
        request.upgrade = _upgrade(request, value, options)
        if request.upgrade:
            nominated.append(b"Upgrade")
            request.added += b"Upgrade: %b\r\n" % request.upgrade
    if request.version and b"trailers" in items(found.get(b"te", b"")):
        request.te_trailers = True
        nominated.append(b"TE")
        request.added += b"TE: trailers\r\n"
    if nominated:
        request.added += b"Connection: %b\r\n" % b", ".join(nominated)


def _upgrade(request: RequestHead, value: bytes, options: frozenset[bytes]) -> bytes:
    """The protocol to ask the service for; empty to go on without, as any server may (§7.8).

    That is so in HTTP/1.0, without ``Connection: upgrade``, for a choice of several, and with a
    body, whose end two servers could see in different places. ``h2c`` is refused: once a service
    took it, further requests would pass inside of it unseen.
    """
    protocols = items(value)
    if not all(_PROTOCOL.fullmatch(protocol) for protocol in protocols):
        raise HeadError("malformed Upgrade")
    if any(protocol.partition(b"/")[0] == b"h2c" for protocol in protocols):
        raise HeadError("upgrade to h2c")
    if len(protocols) != 1 or b"upgrade" not in options or not request.version:
        return b""
    return protocols[0] if request.body is Framing.NONE else b""


# --- responses ----------------------------------------------------------------------------------


def parse_response(head: bytes, *, method: bytes, previous: ResponseHead | None = None) -> ResponseHead:
    """The response to a ``method`` request; :class:`HeadError` with status 502 if it is none.

    ``previous`` is the one before on the same connection, if at hand: it is returned again if both
    are the same to the byte, as answers of one second often are.
    """
    if previous is not None and head == previous.raw and method == previous.method:
        return previous
    try:
        return _response(head, method)
    except HeadError as error:
        error.status = 502
        raise


def _response(head: bytes, method: bytes) -> ResponseHead:
    start, lines, found = read_lines(head, PLAIN_RESPONSE, SPECIAL_RESPONSE)
    version, status, reason = _STATUS_LINES.get(start) or _status_line(start)
    connection = found.pop(b"connection", b"")
    keep_alive, options = version == 1, _NOTHING
    if connection in _KEEP_ALIVE:
        keep_alive = True
    elif connection:
        keep_alive, options, lines = connection_options(connection, version, lines)
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    body, size = read_framing(length, coding, version)
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        body, size = Framing.NONE, 0
        if length is not None and (status < 200 or status == 204):
            # RFC 9110 §8.6: there must be none, and some visitors would wait for that body.
            lines = [line for line in lines if not line.lower().startswith(b"content-length:")]
    elif length is None and coding is None:
        body, keep_alive = Framing.UNTIL_CLOSE, False
    lines.append(b"")
    response = ResponseHead(
        raw=head,
        start=len(start),
        fields=b"\r\n".join(lines),
        version=version,
        body=body,
        length=size,
        keep_alive=keep_alive,
        method=method,
        status=status,
        reason=reason,
    )
    if status in _UPGRADING:
        _read_upgrade(response, found.get(b"upgrade", b"").strip(), options)
    return response


def build_response(head: ResponseHead, *, keep_alive: bool, visitor_version: int, chunked: bool) -> bytes:
    """``head`` as the visitor gets it.

    ``keep_alive``: whether the visitor's connection stays open after this response;
    ``visitor_version``: the minor version of its request; ``chunked``: whether the body is passed
    on in chunks. An interim response says nothing of the connection.
    """
    added = head.added
    if head.status >= 200:
        if not keep_alive:
            added += b"Connection: close\r\n"
        elif not visitor_version:
            added += b"Connection: keep-alive\r\n"
        if chunked:
            added += b"Transfer-Encoding: chunked\r\n"
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (head.status, head.reason, head.fields, added)


def _status_line(line: bytes) -> tuple[int, int, bytes]:
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise HeadError("malformed status line")
    return int(match[1]), int(match[2]), match[3] or b""


def _read_upgrade(response: ResponseHead, protocol: bytes, options: frozenset[bytes]) -> None:
    """RFC 9110 §7.8, §15.5.22: 101 and 426 are the two that have to name a protocol."""
    if response.status == 101:
        if not protocol or b"upgrade" not in options:
            raise HeadError("switch to no protocol")
        response.upgrade, response.keep_alive = True, False
    if protocol:
        response.added = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol


def _quoted(text: str) -> str:
    """A token as it is, anything else as a quoted string (RFC 9110 §5.6.4)."""
    if TOKEN.fullmatch(text.encode("ascii")):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
