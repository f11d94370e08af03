"""The server half of TLS: which certificate is shown, and handshakes that leave others their turn."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from tunnelkit.errors import CertificateFileError, TunnelkitError
from tunnelkit.net.certificates import Certificate, load, state
from tunnelkit.net.pump import Pump
from tunnelkit.net.tls import TlsSocket

__all__ = ["Certificates", "Handshakes", "server_context"]

log = logging.getLogger("tunnelkit")

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption, which clients have had for ten years
(RFC 9325 §4.2). TLS 1.3 has no others."""

WARN_DAYS = 14
"""Days before a certificate's end from which on it is warned about: machines renew a month before."""

TICKET_LIFE = 86400.0
"""Seconds for which session tickets are made with one key: whoever steals it reads no TLS 1.2 sessions
of other days (RFC 5077 §5.5)."""

MAX_HANDSHAKES = 2048
"""Handshakes under way at once, 50 kB each. With one more the oldest is cut: a visitor needs less
than a second, who holds on for longer gives way."""


class _Served(ssl.SSLObject):
    server_name = ""


def server_context() -> ssl.SSLContext:
    """TLS 1.2 and newer, nothing in it that is known to be weak, and session tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # All are strong: the client knows best which one its hardware has.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _Served
    return context


class Certificates:
    """The certificates in ``files``, pairs of a chain and its key (PEM).

    A client is shown the one for the name that it asks for (RFC 6066 §3), and the first where it asks
    for none, or for a name that none is for. Raises CertificateFileError.
    """

    def __init__(self, files: Sequence[tuple[str, str]]) -> None:
        self._files = list(files)
        self._seen = self._look()
        self._load()

    def __repr__(self) -> str:
        return f"<Certificates {', '.join(chain for chain, _ in self._files)}>"

    def _load(self) -> None:
        contexts = [server_context() for _ in self._files]
        loaded = [load(*pair, context) for pair, context in zip(self._files, contexts, strict=True)]
        self.loaded: list[Certificate] = loaded
        by_name = {
            name: context
            for one, context in reversed(list(zip(loaded, contexts, strict=True)))
            for name in one.names
        }

        def choose(tls: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            if name and isinstance(tls, _Served):
                tls.server_name = name = name.lower().rstrip(".")
                tls.context = by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}") or first

        # Tickets are of the context that a handshake begins with, whichever it goes on with.
        contexts[0].sni_callback = choose
        self.context = contexts[0]
        """What the next handshake begins with; another one when the files have changed, and each day."""
        self._stale_at = time.monotonic() + TICKET_LIFE

    def _look(self) -> list[object]:
        return [state(path) for pair in self._files for path in pair]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first certificate, 64 hexadecimal digits."""
        return self.loaded[0].fingerprint

    def warnings(self) -> list[str]:
        """What will soon be wrong, a line each."""
        now = datetime.now(UTC)
        return [
            f"the certificate in {one.chain} expires on {one.expires:%Y-%m-%d}"
            for one in self.loaded
            if (one.expires - now).days < WARN_DAYS
        ]

    def reload(self) -> bool:
        """Read the files again if they have changed; whether they had.

        Connections that are open keep what they have. CertificateFileError, once for each change: what
        was in use stays.
        """
        seen = self._look()
        changed, self._seen = seen != self._seen, seen
        if changed or time.monotonic() >= self._stale_at:
            self._stale_at = math.inf  # until it has been loaded
            self._load()
        return changed


Accepted = Callable[[TlsSocket], None]


class Handshakes:
    """Server handshakes that are under way; each has to be done within ``patience`` seconds.

    A step may cost a signature, a millisecond of an RSA key's. One is taken in each turn of the loop,
    so that many who come at once make each other wait, and not the streams that run.
    """

    def __init__(self, pump: Pump, certificates: Certificates, *, patience: float) -> None:
        self.certificates = certificates
        self._pump = pump
        self._patience = patience
        self._under_way: dict[_Handshake, float] = {}
        self._ready: deque[_Handshake] = deque()

    def accept(self, sock: socket.socket, address: tuple[Any, ...], received: bytes, then: Accepted) -> None:
        """Shake hands over ``sock``, of which ``received`` has come, and hand it to ``then``."""
        if len(self._under_way) >= MAX_HANDSHAKES:
            self._cut(next(iter(self._under_way)))
        tls = TlsSocket(sock, self.certificates.context, server_side=True, received=received)
        handshake = _Handshake(self, tls, address, then)
        self._under_way[handshake] = self._pump.loop.time() + self._patience
        self.ready(handshake)

    def __len__(self) -> int:
        return len(self._under_way)

    def ready(self, handshake: _Handshake) -> None:
        """It can go on: in its turn."""
        handshake.wait_for(self._pump, "")
        self._ready.append(handshake)
        if len(self._ready) == 1:
            self._pump.loop.call_soon(self._next)

    def _next(self) -> None:
        if not self._ready:
            return
        handshake = self._ready.popleft()
        if self._ready:
            self._pump.loop.call_soon(self._next)
        tls = handshake.tls
        try:
            tls.do_handshake()
        except BlockingIOError:
            handshake.wait_for(self._pump, "write" if tls.wants_write else "read")
        except (OSError, TunnelkitError) as error:
            log.info("%s: %s", handshake.address[0], error)
            self._cut(handshake)
        else:
            del self._under_way[handshake]
            handshake.then(tls)

    def _cut(self, handshake: _Handshake) -> None:
        del self._under_way[handshake]
        if handshake in self._ready:
            self._ready.remove(handshake)
        handshake.wait_for(self._pump, "")
        handshake.tls.close()

    def tick(self, now: float) -> None:
        """Cut those that take too long, and read certificates that have changed; called every second."""
        while self._under_way:
            handshake, deadline = next(iter(self._under_way.items()))
            if deadline > now:
                break
            self._cut(handshake)
        try:
            if self.certificates.reload():
                log.warning("certificates read again: %s", self.certificates)
                for warning in self.certificates.warnings():
                    log.warning("%s", warning)
        except CertificateFileError as error:
            log.warning("certificates have changed and cannot be used, those before stay: %s", error)

    def close(self) -> None:
        """End all that are under way."""
        for handshake in list(self._under_way):
            self._cut(handshake)
        self._ready.clear()


class _Handshake:
    """One that is under way."""

    __slots__ = ("_fd", "_handshakes", "_waits", "address", "then", "tls")

    def __init__(
        self, handshakes: Handshakes, tls: TlsSocket, address: tuple[Any, ...], then: Accepted
    ) -> None:
        self.tls = tls
        self.address = address
        self.then = then
        self._handshakes = handshakes
        self._fd = tls.fileno()
        self._waits = ""

    def wait_for(self, pump: Pump, what: str) -> None:
        """``read``, ``write``, or nothing: then the poller forgets it."""
        if self._waits == "read":
            pump.poller.remove_reader(self._fd)
        elif self._waits == "write":
            pump.poller.remove_writer(self._fd)
        self._waits = what
        if what == "read":
            pump.poller.add_reader(self._fd, self._ready)
        elif what == "write":
            pump.poller.add_writer(self._fd, self._ready)

    def _ready(self) -> None:
        self._handshakes.ready(self)
