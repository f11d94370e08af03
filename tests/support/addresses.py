"""Ports that were free a moment ago, for programs that cannot be asked for port 0."""

from __future__ import annotations

import contextlib
import random
import socket

BELOW_EPHEMERAL = range(20_000, 32_000)  # Linux hands out 32768 and up by itself


def free_port() -> int:
    """One TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_port_range(count: int) -> range:
    """``count`` TCP ports in a row, all free on 127.0.0.1."""
    for _ in range(100):
        first = random.randrange(BELOW_EPHEMERAL.start, BELOW_EPHEMERAL.stop - count)
        ports = range(first, first + count)
        if all(map(_is_free, ports)):
            return ports
    raise OSError(f"no {count} free ports in a row in {BELOW_EPHEMERAL}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
