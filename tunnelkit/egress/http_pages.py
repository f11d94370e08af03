"""What an HTTP client of the proxy is told where there is no answer from a server."""

from __future__ import annotations

from http import HTTPStatus
from types import MappingProxyType

__all__ = ["refusal"]

_STATUS = MappingProxyType(
    {
        "destination_denied": 403,
        "destination_timeout": 504,
        "exit_away": 503,
        "exit_not_allowed": 403,
        "invalid_target": 400,
        "limit": 503,
        "proxy_unavailable": 503,
        "relay_unreachable": 503,
        "timeout": 504,
        "user_limit": 429,
    }
)
"""The status that belongs to an error's code; 502 for what is not here."""


def refusal(status: int, code: str, what: str, *, body: bool = True) -> bytes:
    """A whole HTTP answer that ends its connection. ``status`` 0: the one that belongs to ``code``."""
    if code == "destination_denied":  # the rest of it names addresses, perhaps of a private network
        what = "The proxy's rules do not let anybody go there"
    status = status or _STATUS.get(code, 502)
    reason = HTTPStatus(status).phrase
    content = f"{status} {reason}: {what} [{code}]\n".encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(content)}",
        f"Tunnelkit-Error: {code}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status == 407:
        lines.append('Proxy-Authenticate: Basic realm="tunnelkit", charset="UTF-8"')
    head = "".join(f"{line}\r\n" for line in (*lines, ""))
    return head.encode() + (content if body else b"")
