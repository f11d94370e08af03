"""The access log: one record for each connection, request or UDP association."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tunnelkit.wire.address import Endpoint

__all__ = ["Access", "OnAccess"]

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
"""Text that needs no quotes in a line of ``name=value``."""


class Access:
    """Who went where, and how it ended. Holds no password, no path and nothing of the bytes.

    ``str()`` of it is a line of ``name=value``, values in JSON's quotes where they need some.
    """

    __slots__ = ("client", "end", "host", "port", "protocol", "received", "seconds", "sent", "source", "user")

    def __init__(
        self, client: tuple[str, int], protocol: str, user: str = "", host: str = "", port: int = 0
    ) -> None:
        self.client = client
        """The client's address and port."""
        self.protocol = protocol
        """``socks4``, ``socks5``, ``socks5-udp``, ``connect`` or ``http``; empty if that was not said."""
        self.user = user
        """Empty where nobody has to say."""
        self.host = host
        """Where to, as the client wrote it; empty if it did not come to that."""
        self.port = port
        self.source = ""
        """The address it left from."""
        self.sent = 0
        """Bytes from the client to the destination."""
        self.received = 0
        """Bytes from the destination to the client."""
        self.seconds = 0.0
        self.end = ""
        """``ok``, or the code of what went wrong."""

    def __str__(self) -> str:
        fields = {
            "client": str(Endpoint(*self.client)),
            "user": self.user,
            "protocol": self.protocol,
            "to": str(Endpoint(self.host, self.port)) if self.host else "",
            "from": self.source,
            "sent": str(self.sent),
            "received": str(self.received),
            "seconds": f"{self.seconds:.3f}",
            "end": self.end,
        }
        return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text) if text else "-"


OnAccess = Callable[[Access], object]
