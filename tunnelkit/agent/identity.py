"""Who this agent is to a relay: the same after a restart, different on every machine."""

from __future__ import annotations

import getpass
import hashlib
import platform
import uuid
from pathlib import Path

__all__ = ["agent_id"]


def agent_id() -> str:
    """A stable name for this user on this machine, which says nothing about either.

    A new session of the same agent takes its tunnels over at once, so that one's own ghost is never
    in the way. The host name is part of it since images carry their machine-id (machine-id(5)) along.
    """
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        machine = f"{uuid.getnode():x}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = ""
    return hashlib.sha256(f"tunnelkit:{machine}:{platform.node()}:{user}".encode()).hexdigest()[:32]
