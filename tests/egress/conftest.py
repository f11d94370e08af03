"""What tests of the egress proxy share."""

from __future__ import annotations

import errno
import os
import socket

import pytest


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Addresses in this set cannot be bound, as if they had been taken from the machine."""
    addresses: set[str] = set()

    class Socket(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            if address[0] in addresses:
                raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Socket)
    return addresses
