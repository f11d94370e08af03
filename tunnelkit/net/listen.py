"""Listening sockets: bind, accept, and what to do when descriptors run out."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from tunnelkit.errors import AddressInUseError
from tunnelkit.net.sockets import tune

__all__ = ["ACCEPT_PAUSE", "Listener", "OnAccept", "bind", "raise_descriptor_limit"]

log = logging.getLogger("tunnelkit")

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel caps it at net.core.somaxconn (listen(2))."""

ACCEPT_BATCH = 64
"""Connections accepted before others get a turn."""

ACCEPT_PAUSE = 0.1
"""Seconds without accepting once descriptors have run out; the backlog keeps visitors meanwhile."""

COMPLAINT_INTERVAL = 60.0
"""Seconds between two complaints of one listener that it cannot accept."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

OnAccept = Callable[[socket.socket, Any], None]


def bind(host: str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket on a numeric or local ``host``; port 0: any.

    An empty host is every address of the machine, IPv6 and IPv4. Raises AddressInUseError.
    """
    try:
        dual = host == "" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        sock = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual, reuse_port=False
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressInUseError(f"Cannot listen on {host or '*'}:{port}: {reason}") from error
    tune(sock)  # accepted sockets inherit it under Linux
    sock.setblocking(False)
    return sock


class Listener:
    """Accepts on ``sock`` and calls ``on_accept(connection, address)`` until closed.

    ``on_exhausted`` is called whenever descriptors have run out, before a pause: whoever can do
    without some gives them up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_accept: OnAccept,
        *,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self.sock = sock
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._loop = loop
        self._fd = sock.fileno()
        self._on_accept = on_accept
        self._on_exhausted = on_exhausted
        self._retry: asyncio.TimerHandle | None = None
        self._complained_at: float | None = None
        self._closed = False
        loop.add_reader(self._fd, self._accept)

    @property
    def port(self) -> int:
        return self.address[1]

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, address = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # that connection has already gone (accept(2))
            connection.setblocking(False)
            self._on_accept(connection, address)
            if self._closed:
                return

    def _pause(self, error: OSError) -> None:
        now = self._loop.time()
        if self._complained_at is None or now - self._complained_at >= COMPLAINT_INTERVAL:
            self._complained_at = now
            log.error("cannot accept visitors on %s:%d for now: %s", *self.address, error.strerror)
        self._loop.remove_reader(self._fd)
        self._retry = self._loop.call_later(ACCEPT_PAUSE, self._resume)
        if self._on_exhausted is not None:
            self._on_exhausted()

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._fd, self._accept)

    def close(self) -> None:
        """Stop accepting and release the address."""
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        else:
            self._loop.remove_reader(self._fd)
        self.sock.close()


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of descriptors to its hard one (getrlimit(2)); the new limit.

    For processes that are tunnelkit's own; a library leaves its host's limits alone.
    """
    try:
        import resource
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard
