"""HTTP field lines: their names, their lists, and what they say about a message's body and hop.

What requests, responses and trailers have in common; :mod:`tunnelkit.wire.http_head` reads whole
heads with it. References are to RFC 9110 (semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from tunnelkit.errors import ProtocolError

__all__ = [
    "BAD_BYTE",
    "CONTROLS",
    "MAX_FIELDS",
    "MAX_HEAD",
    "MAX_LENGTH",
    "PLAIN_REQUEST",
    "PLAIN_RESPONSE",
    "SPECIAL_REQUEST",
    "SPECIAL_RESPONSE",
    "TOKEN",
    "Framing",
    "HeadError",
    "bad_byte",
    "check_trailer",
    "connection_options",
    "items",
    "read_framing",
    "read_lines",
    "shown",
]

MAX_HEAD: Final = 65536
"""Bytes in one head. Cookies and tokens reach 16 KiB; most servers stop between 8 and 64 KiB."""

MAX_FIELDS: Final = 100
"""Field lines in one head, which is Apache's limit. Browsers send under 30, proxies add a dozen."""

MAX_LENGTH: Final = 2**63 - 1
"""Bytes in one body or chunk: what the signed 64-bit counters of the servers behind can hold."""


class HeadError(ProtocolError):
    """A head, or the framing of a body, that is refused; its connection has to be closed.

    ``status`` is what a visitor is answered: 400, 417, 431, 501 or 505 for its request, and 502
    for a service's response. ``reason`` is one line for a person.
    """

    code = "http_head"
    default_hint = ""

    def __init__(self, what: str, *, status: int = 400, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.status = status

    @property
    def reason(self) -> str:
        return self.what

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"status": self.status})


class Framing(Enum):
    """How the end of a body is found (RFC 9112 §6.3). A length of 0 counts as ``NONE``."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    """Responses only: the body ends with the connection."""


def _plain(names: str) -> frozenset[bytes]:
    """``names`` as browsers write them and as HTTP/2 translates them: the two usual spellings."""
    return frozenset(name for each in names.encode().split() for name in (each, each.lower()))


def _special(names: str) -> dict[bytes, bytes]:
    """``names`` by their usual spellings."""
    folded = names.encode().split()
    titles = {b"-".join(word.capitalize() for word in name.split(b"-")): name for name in folded}
    return titles | {name: name for name in folded}


# Fields that are forwarded unread. The list is for speed alone: these names need no check.
PLAIN_REQUEST: Final = _plain("""
    Accept Accept-Charset Accept-Encoding Accept-Language Access-Control-Request-Headers
    Access-Control-Request-Method Authorization Cache-Control Content-Disposition Content-Encoding
    Content-Language Content-Type Cookie DNT Date From If-Match If-Modified-Since If-None-Match
    If-Range If-Unmodified-Since Last-Event-ID Origin Pragma Priority Range Referer Sec-CH-UA
    Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User
    Sec-GPC Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version
    Traceparent Tracestate Trailer Upgrade-Insecure-Requests User-Agent Via X-API-Key X-CSRF-Token
    X-Request-ID X-Requested-With
""")
PLAIN_RESPONSE: Final = _plain("""
    Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers
    Access-Control-Allow-Methods Access-Control-Allow-Origin Access-Control-Expose-Headers
    Access-Control-Max-Age Age Allow Alt-Svc Cache-Control Content-Disposition Content-Encoding
    Content-Language Content-Location Content-Range Content-Security-Policy Content-Type
    Cross-Origin-Embedder-Policy Cross-Origin-Opener-Policy Cross-Origin-Resource-Policy Date ETag
    Expires Last-Modified Link Location Permissions-Policy Pragma Referrer-Policy Retry-After
    Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Protocol Server Server-Timing
    Set-Cookie Strict-Transport-Security Trailer Vary Via WWW-Authenticate X-Content-Type-Options
    X-Frame-Options X-Powered-By X-Request-ID X-XSS-Protection
""")

_HOP_BY_HOP: Final = """
    connection http2-settings keep-alive proxy-authenticate proxy-authentication-info
    proxy-authorization proxy-connection te transfer-encoding upgrade
"""
"""Fields between two neighbours (RFC 9110 §7.6.1), never forwarded as they come."""

# What a visitor says of its own address the service would believe: it hears that from us alone.
_FORWARDING: Final = "client-ip forwarded true-client-ip x-client-ip x-cluster-client-ip x-real-ip"
_FORWARDING_PREFIX: Final = b"x-forwarded-"

# CGI makes HTTP_PROXY of "Proxy", from which HTTP clients take their proxy (CVE-2016-5385).
_DECEPTIVE: Final = "proxy"

SPECIAL_REQUEST: Final = _special(f"{_HOP_BY_HOP} {_FORWARDING} {_DECEPTIVE} host content-length expect")
SPECIAL_RESPONSE: Final = _special(f"{_HOP_BY_HOP} content-length")

_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_NOT_TO_NOMINATE: Final = _FRAMING | {b"expect", b"host"}
_HOP_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"te", b"upgrade"))

_NOT_IN_TRAILERS: Final = frozenset(SPECIAL_REQUEST) | frozenset(
    b"authorization content-encoding content-range content-type cookie set-cookie trailer".split()
)
"""Fields that frame, route, authenticate or explain a body: too late after it (RFC 9110 §6.5.1)."""

CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})
BAD_BYTE: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
TOKEN: Final = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~-]++")


def _fold(byte: bytes) -> bytes:
    if not TOKEN.match(byte):
        return b"\0"
    return byte.lower() if byte.isalnum() else b"-"


_FOLD: Final = b"".join(_fold(bytes((code,))) for code in range(256))
"""Names as CGI compares them: lower case, punctuation a hyphen; NUL for what is no token."""


def read_lines(
    head: bytes, plain: frozenset[bytes], special: dict[bytes, bytes]
) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    """Start line, field lines to forward, and values of the special fields by folded name.

    Values of a repeated field are joined by a comma (RFC 9110 §5.3), so that two Hosts or two
    lengths become one that is malformed. Content-Length is in both results.
    """
    lines = head.split(b"\r\n")
    size, ends = len(head), len(lines) - 1
    # No control character but the CRs and LFs of the split: so none of those is bare, either.
    if (
        size > MAX_HEAD
        or not 2 <= ends <= MAX_FIELDS + 2
        or len(head.translate(None, CONTROLS)) != size - 2 * ends
        or lines.pop()
        or lines.pop()
    ):
        raise _refusal(head, ends)
    start = lines.pop(0)
    kept: list[bytes] = []
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if name in plain and colon:
            kept.append(line)
            continue
        field = special.get(name)
        if field is None or not colon:
            field = _folded(name, colon)
            if field not in special and not field.startswith(_FORWARDING_PREFIX):
                kept.append(line)
                continue
        if field == b"content-length":
            kept.append(line)
        found[field] = found[field] + b"," + value if field in found else value
    return start, kept, found


def _folded(name: bytes, colon: bytes) -> bytes:
    """``name`` as CGI would compare it.

    The service may fold ``X_Forwarded_For`` into the same variable as ``X-Forwarded-For``: it is
    treated as that, and a lookalike of the framing fields is refused.
    """
    folded = name.translate(_FOLD)
    if not folded or not colon or 0 in folded:
        if name[:1] in (b" ", b"\t"):
            raise HeadError("folded field line")
        if name[-1:] in (b" ", b"\t") and colon:
            raise HeadError("space before a colon")
        raise HeadError(f"{shown(name)} is no field name")
    if folded in _FRAMING and name.lower() != folded:
        raise HeadError(f"{shown(name)} could be taken for {shown(folded)}")
    return folded


def check_trailer(line: bytes) -> None:
    """Raise :class:`HeadError` unless ``line`` is a field line that may follow a chunked body.

    A server that merges trailers into the head would believe them.
    """
    name, colon, _ = line.partition(b":")
    field = _folded(name, colon)
    if field in _NOT_IN_TRAILERS or field.startswith(_FORWARDING_PREFIX):
        raise HeadError(f"{shown(name)} in a trailer")


def connection_options(
    value: bytes, version: int, lines: list[bytes]
) -> tuple[bool, frozenset[bytes], list[bytes]]:
    """What Connection says: whether to keep the connection, all its options, and the ``lines``
    that are left without those it nominates (RFC 9110 §7.6.1).
    """
    options = frozenset(item.translate(_FOLD) for item in items(value))
    if any(0 in option for option in options):
        raise HeadError("malformed Connection")
    if vital := options & _NOT_TO_NOMINATE:
        raise HeadError(f"Connection nominates {shown(min(vital))}")
    if not options <= _HOP_OPTIONS:
        lines = [line for line in lines if line.partition(b":")[0].translate(_FOLD) not in options]
    keep_alive = b"close" not in options and (version == 1 or b"keep-alive" in options)
    return keep_alive, options, lines


def read_framing(length: bytes | None, coding: bytes | None, version: int) -> tuple[Framing, int]:
    """Framing and length by Content-Length and Transfer-Encoding: RFC 9112 §6 without leniency."""
    if coding is not None:
        if length is not None:
            raise HeadError("both Content-Length and Transfer-Encoding")
        if not version:
            raise HeadError("Transfer-Encoding in HTTP/1.0")
        if coding.strip().lower() == b"chunked":
            return Framing.CHUNKED, 0
        codings = items(coding)
        if not codings or b"identity" in codings or b"chunked" in codings[:-1]:
            raise HeadError("malformed Transfer-Encoding")
        raise HeadError("Transfer-Encoding other than chunked", status=501)
    if length is None:
        return Framing.NONE, 0
    digits = length.strip()
    # int() alone would take signs, underscores and any number of digits.
    if not digits.isdigit() or len(digits) > 19 or (size := int(digits)) > MAX_LENGTH:
        raise HeadError("malformed Content-Length")
    return (Framing.LENGTH, size) if size else (Framing.NONE, 0)


def items(value: bytes) -> list[bytes]:
    """A comma-separated list in lower case; empty elements mean nothing (RFC 9110 §5.6.1)."""
    return [item for part in value.lower().split(b",") if (item := part.strip())]


def shown(name: bytes) -> str:
    """``name`` for an error's text."""
    return repr(name[:40].decode("latin-1"))


def bad_byte(byte: bytes) -> HeadError:
    """The error for what :data:`BAD_BYTE` found."""
    bare = {b"\n": "line feed without carriage return", b"\r": "carriage return without line feed"}
    return HeadError(bare.get(byte) or f"control character {byte.hex()}")


def _refusal(head: bytes, ends: int) -> HeadError:
    if len(head) > MAX_HEAD:
        return HeadError(f"head over {MAX_HEAD} bytes", status=431)
    if bad := BAD_BYTE.search(head):
        return bad_byte(bad[0])
    if ends > MAX_FIELDS + 2:
        return HeadError(f"over {MAX_FIELDS} fields", status=431)
    return HeadError("head without its end")
